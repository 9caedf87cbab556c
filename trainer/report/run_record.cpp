#include "trainer/report/run_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "core/json.h"
#include "trainer/files/lenient_json.h"
#include "trainer/run/run_folder.h"

namespace trainer {
namespace {

using core::ExitCode;
using nlohmann::json;
namespace fs = std::filesystem;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kMostSets = 64;  // of validation; more than that is damage

std::string folder_name(const fs::path& path) {
  const fs::path whole = (fs::absolute(path) / ".").lexically_normal().parent_path();
  // Every run calls its converted model so.
  if (whole.filename() == "converted")
    return whole.parent_path().filename().string() + "/converted";
  return whole.filename();
}

// null stands for NaN in metrics.jsonl.
bool is_value(const json& value) { return value.is_number() || value.is_null(); }

void add_point(RunRecord& run, const std::string& curve, const json& line, const json& value) {
  Curve& c = run.curves[curve];
  c.step.push_back(number_at(line, {"step"}));
  c.tokens.push_back(number_at(line, {"tokens"}));
  c.value.push_back(value.is_number() ? value.get<double>() : kNaN);
}

void add_line(RunRecord& run, const json& line) {
  if (!std::isfinite(number_at(line, {"step"}))) return;
  const std::string type = text_at(line, {"type"});
  if (type == "train")
    for (const char* key : {"loss", "lr", "grad_norm", "tokens_per_s", "rss_bytes", "wall_s"})
      if (line.contains(key) && is_value(line[key])) add_point(run, key, line, line[key]);
  if (type == "val")
    for (const auto& [key, value] : line.items())
      if (key.starts_with("val_loss") && is_value(value) &&
          (run.curves.contains(key) || run.curves.size() < kMostSets))
        add_point(run, key, line, value);
}

// The object in a file that need not be there; what is wrong with it becomes a note.
json read_optional(const fs::path& path, std::vector<std::string>& notes) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return nullptr;
  try {
    return core::read_json(path);
  } catch (const core::Error& fault) {
    notes.emplace_back(fault.what());
    return nullptr;
  }
}

void read_curves(RunRecord& run) {
  const fs::path metrics = run.path / "metrics.jsonl";
  std::error_code error;
  if (!fs::is_regular_file(metrics, error)) return;
  for_each_metrics_line(metrics, [&](const json& line) { add_line(run, line); });
}

}  // namespace

const Curve* RunRecord::find(const std::string& curve) const {
  const auto found = curves.find(curve);
  return found == curves.end() ? nullptr : &found->second;
}

double RunRecord::last(const std::string& curve) const {
  const Curve* c = find(curve);
  return c == nullptr ? kNaN : c->value.back();
}

double RunRecord::least(const std::string& curve) const {
  double least = kNaN;
  if (const Curve* c = find(curve))
    for (const double value : c->value) least = std::fmin(least, value);
  return least;
}

double RunRecord::last_step() const {
  double last = kNaN;
  for (const auto& [key, curve] : curves) last = std::fmax(last, curve.step.back());
  return last;
}

double RunRecord::tokens() const {
  double most = number_at(result, {"tokens"});
  for (const auto& [key, curve] : curves) most = std::fmax(most, curve.tokens.back());
  return most;
}

RunRecord read_run(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error))
    core::fail(ExitCode::kMissingInput, {.path = path,
                                         .field = "RUN",
                                         .expected = "a run folder, or a converted model's",
                                         .found = fs::exists(path, error) ? "a file" : "nothing"});
  RunRecord run;
  run.path = path;
  run.name = folder_name(path);
  read_curves(run);
  const json status = read_optional(path / "status.json", run.notes);
  run.state = text_at(status, {"state"});
  run.message = text_at(status, {"message"});
  run.result = read_optional(path / "result.json", run.notes);
  run.conversion = find_conversion(path, run.notes);
  if (run.curves.empty() && !run.conversion)
    core::fail(ExitCode::kBadData,
               {.path = path,
                .field = "RUN",
                .expected = "metrics.jsonl with measured steps, or a conversion",
                .found = run.notes.empty() ? "neither" : run.notes.front()});
  return run;
}

void name_apart(std::vector<RunRecord>& runs) {
  std::map<std::string, int> count;
  for (const RunRecord& run : runs) ++count[run.name];
  std::set<std::string> taken;
  std::map<std::string, int> next;  // number to try, of a name that is taken
  for (RunRecord& run : runs) {
    if (count[run.name] > 1) run.name = folder_name(run.path / "..") + "/" + run.name;
    const std::string name = run.name;
    int& i = next.try_emplace(name, 2).first->second;
    for (; !taken.insert(run.name).second; ++i) run.name = fmt::format("{} ({})", name, i);
  }
}

}  // namespace trainer
