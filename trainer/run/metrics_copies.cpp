#include "trainer/run/metrics_copies.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

#include "core/file.h"
#include "core/io.h"
#include "trainer/files/append_file.h"
#include "trainer/files/event_file.h"
#include "trainer/files/manifest.h"
#include "trainer/run/run_folder.h"

namespace trainer {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kColumns[] = {"type",        "step",   "tokens",    "epoch",   "loss",
                                    "val_loss",    "lr",     "grad_norm", "skipped", "tokens_per_s",
                                    "step_time_s", "wall_s", "rss_bytes"};

bool is_copied(const json& line) {
  const auto type = line.find("type");
  return type != line.end() && (*type == "train" || *type == "val");
}

// Empty for NaN, too, which JSON calls null.
std::string csv_cell(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  const std::string text = value.dump();
  return text == "null" ? "" : text;
}

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// "val_loss/SET" is val/SET, "val_loss" is val/loss, the rest train/...
std::string tag_of(const std::string& key) {
  constexpr std::string_view kValidation = "val_loss";
  if (!key.starts_with(kValidation)) return "train/" + key;
  return key == kValidation ? "val/loss" : "val" + key.substr(kValidation.size());
}

std::vector<std::pair<std::string, double>> scalars_of(const json& line) {
  const bool train = line["type"] == "train";
  std::vector<std::pair<std::string, double>> scalars;
  for (const auto& [key, value] : line.items())
    if (value.is_number() &&
        (key.starts_with("val_loss") || (train && key != "step" && key != "wall_s")))
      scalars.emplace_back(tag_of(key), value.get<double>());
  return scalars;
}

// TensorBoard reads the files of a folder in the order of their names.
fs::path event_file_name(double now) {
  static std::atomic<int> number{0};
  const std::string host = basic_provenance().value("host", "host");
  return fmt::format("events.out.tfevents.{:010.0f}.{}.{}.{}", std::floor(now), host, ::getpid(),
                     number++);
}

}  // namespace

std::string metrics_csv_head() { return fmt::format("{}\r\n", fmt::join(kColumns, ",")); }

std::string metrics_csv_row(const json& line) {
  if (!is_copied(line)) return {};
  std::vector<std::string> cells;
  for (const char* column : kColumns) {
    const auto value = line.find(column);
    cells.push_back(value == line.end() ? "" : csv_cell(*value));
  }
  return fmt::format("{}\r\n", fmt::join(cells, ","));
}

MetricsCopies::MetricsCopies(const fs::path& run_folder, int64_t resumed_step)
    : csv_path_(run_folder / "metrics.csv"), events_path_(run_folder / "tb") {
  std::string csv = metrics_csv_head();
  for_each_metrics_line(run_folder / "metrics.jsonl",
                        [&](const json& line) { csv += metrics_csv_row(line); });
  core::write_file_atomically(csv_path_, csv);
  core::create_directories(events_path_);
  const double now = unix_time();
  events_path_ /= event_file_name(now);
  csv_ = open_to_append(csv_path_);
  try {
    events_ = open_to_append(events_path_);
    write_all(events_, events_path_,
              event_file_version(now) + event_session_start(now, resumed_step + 1));
  } catch (...) {
    core::io::close(csv_);
    if (events_ >= 0) core::io::close(events_);
    throw;
  }
}

MetricsCopies::~MetricsCopies() {
  core::io::close(csv_);
  core::io::close(events_);
}

void MetricsCopies::append(const json& line) {
  if (!is_copied(line)) return;
  write_all(csv_, csv_path_, metrics_csv_row(line));
  const json step = line.value("step", json());
  if (!step.is_number_integer()) return;
  write_all(events_, events_path_,
            event_scalars(unix_time(), step.get<int64_t>(), scalars_of(line)));
}

}  // namespace trainer
