#include "trainer/sweep/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "chart/table.h"
#include "core/error.h"
#include "core/file.h"
#include "core/text.h"
#include "trainer/config/scalars.h"
#include "trainer/files/file_lock.h"
#include "trainer/files/json_files.h"
#include "trainer/files/lenient_json.h"
#include "trainer/run/run_owner.h"
#include "trainer/sweep/queue.h"

namespace trainer {
namespace {

using nlohmann::json;

json value_json(const SweepValue& value) {
  if (value.quoted) return value.text;
  if (const auto integer = parse_integer(value.text)) return *integer;
  if (const auto number = parse_decimal(value.text)) return *number;
  return value.text;
}

json conversion_of(const Trial& trial) {
  json c = {{"strategy", nullptr},
            {"rope_pairs_per_head", nullptr},
            {"method", nullptr},
            {"latent_dims_per_kv_head", nullptr}};
  if (!trial.config.mla) return c;
  const MlaConfig& mla = *trial.config.mla;
  return {{"strategy", mla.rope.strategy},
          {"rope_pairs_per_head", mla.rope.rope_pairs_per_head},
          {"method", mla.latent.method},
          {"latent_dims_per_kv_head", mla.latent.latent_dims_per_kv_head}};
}

// A process that was killed could not write that its trial no longer runs. What the queue never
// writes says nothing.
std::string state_of(const SweepPlan& plan, const Trial& trial, const json& queue) {
  static const std::set<std::string> written = {"running", "done", "failed", "stopped"};
  const std::string state = text_at(queue, {"state"});
  if (!written.contains(state)) return "waiting";
  const bool left =
      state == "running" && find_owner(trial_folder(plan, trial)).state == RunOwner::State::kGone;
  return left ? "interrupted" : state;
}

// A trial that is not over has measured nothing but the step of its status.
void add_unfinished(const SweepPlan& plan, const Trial& trial, const json& queue, json& row) {
  constexpr int64_t kLargestExitCode = 255;
  if (const auto code = count_at(queue, "exit_code", kLargestExitCode)) row["exit_code"] = *code;
  if (const json& message = value_at(queue, {"message"}); message.is_string())
    row["message"] = message;
  const json status = read_object(trial_folder(plan, trial) / "status.json");
  const TokensConfig& t = trial.config.tokens;
  if (const auto steps = count_at(status, "step", t.train_steps)) {
    row["steps"] = *steps;
    row["tokens"] = *steps * t.global_batch_size * t.sequence_length;
  }
}

void add_progress(const SweepPlan& plan, const Trial& trial, json& row) {
  for (const char* key :
       {"exit_code", "message", "parameters", "steps", "tokens", "tokens_per_second", "seconds"})
    row[key] = nullptr;
  row["validation"] = {{"source", nullptr}, {"before", nullptr}, {"after", nullptr}};
  const json result = read_trial_result(plan, trial);
  const json state = read_trial_state(plan, trial);
  row["state"] = result.is_null() ? state_of(plan, trial, state) : "done";
  if (result.is_null()) return add_unfinished(plan, trial, state, row);
  row["exit_code"] = 0;
  for (const char* key : {"parameters", "steps", "tokens", "tokens_per_second", "seconds"})
    if (const json& value = value_at(result, {key}); value.is_number()) row[key] = value;
  const json& validation = value_at(result, {"validation"});
  const char* before = validation.contains("converted") ? "converted" : "start";
  row["validation"]["source"] = value_at(validation, {"source"});
  row["validation"]["before"] = value_at(validation, {before});
  row["validation"]["after"] = value_at(validation, {"recovered"});
}

json row_of(const SweepPlan& plan, const Trial& trial) {
  json row = {{"id", trial.id}, {"run", trial.id}, {"baseline", trial.baseline}};
  row["settings"] = json::object();
  for (const auto& [name, value] : trial.settings) row["settings"][name] = value_json(value);
  row.update(conversion_of(trial));
  row["cache_bytes_per_token"] = {{"before", 2 * trial.cache_before},
                                  {"after", 2 * trial.cache_after}};
  row["cache_percent"] =
      100.0 * static_cast<double>(trial.cache_after) / static_cast<double>(trial.cache_before);
  row["tokens_planned"] = trial.tokens();
  add_progress(plan, trial, row);
  return row;
}

// Names of validation sets, as any trial has them.
std::vector<std::string> sets_of(const json& report) {
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (const json& row : report.at("trials"))
    for (const auto& [name, value] : row.at("validation").at("after").items())
      if (value.is_object() && seen.insert(name).second) names.push_back(name);
  return names;
}

std::string text_of(const json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

std::string rounded(const json& value, int decimals) {
  return value.is_number() ? fmt::format("{:.{}f}", value.get<double>(), decimals) : "";
}

json measured(const json& row, const char* when, const std::string& set, const char* what) {
  return value_at(row, {"validation", when, set.c_str(), what});
}

json mean_of(const json& row, const char* when) {
  return value_at(row, {"validation", when, "mean_nll"});
}

std::string joined_ppl(const json& row, const char* when, const std::vector<std::string>& sets) {
  std::vector<std::string> parts;
  for (const std::string& set : sets) parts.push_back(rounded(measured(row, when, set, "ppl"), 2));
  const bool any =
      std::any_of(parts.begin(), parts.end(), [](const std::string& p) { return !p.empty(); });
  return any ? fmt::format("{}", fmt::join(parts, " / ")) : "";
}

// Tokens per second of the trials that are done; nothing when none is that took any time.
std::optional<double> mean_speed(const json& report) {
  double sum = 0;
  int count = 0;
  for (const json& row : report.at("trials"))
    if (const double speed = number_at(row, {"tokens_per_second"}); speed > 0) {
      sum += speed;
      ++count;
    }
  return count > 0 ? std::optional(sum / count) : std::nullopt;
}

}  // namespace

json sweep_report(const SweepPlan& plan) {
  json report = {{"format", "mha2mla-sweep"}, {"version", 1}, {"name", plan.name}};
  report["axes"] = json::array();
  for (const SweepAxis& axis : plan.axes) {
    json values = json::array();
    for (const SweepValue& value : axis.values) values.push_back(value_json(value));
    report["axes"].push_back({{"name", axis.name}, {"key", axis.key}, {"values", values}});
  }
  report["trials"] = json::array();
  for (const Trial& trial : plan.trials) report["trials"].push_back(row_of(plan, trial));
  return report;
}

std::string sweep_csv(const json& report) {
  const std::vector<std::string> sets = sets_of(report);
  std::vector<std::string> head = {"id",
                                   "baseline",
                                   "state",
                                   "exit_code",
                                   "strategy",
                                   "rope_pairs_per_head",
                                   "method",
                                   "latent_dims_per_kv_head",
                                   "cache_bytes_per_token",
                                   "cache_percent",
                                   "parameters",
                                   "tokens"};
  for (const char* when : {"before", "after"}) {
    for (const std::string& set : sets) head.push_back(fmt::format("ppl_{}/{}", when, set));
    head.push_back(fmt::format("mean_nll_{}", when));
  }
  head.insert(head.end(), {"tokens_per_second", "seconds"});
  std::vector<std::string> fields;
  for (const std::string& name : head) fields.push_back(chart::csv_quoted(name));
  std::string text = fmt::format("{}\n", fmt::join(fields, ","));
  for (const json& row : report.at("trials")) {
    std::vector<json> values = {row.at("id"),
                                row.at("baseline"),
                                row.at("state"),
                                row.at("exit_code"),
                                row.at("strategy"),
                                row.at("rope_pairs_per_head"),
                                row.at("method"),
                                row.at("latent_dims_per_kv_head"),
                                row.at("cache_bytes_per_token").at("after"),
                                row.at("cache_percent"),
                                row.at("parameters"),
                                row.at("tokens")};
    for (const char* when : {"before", "after"}) {
      for (const std::string& set : sets) values.push_back(measured(row, when, set, "ppl"));
      values.push_back(mean_of(row, when));
    }
    values.push_back(row.at("tokens_per_second"));
    values.push_back(row.at("seconds"));
    fields.clear();
    for (const json& value : values) fields.push_back(chart::csv_quoted(text_of(value)));
    text += fmt::format("{}\n", fmt::join(fields, ","));
  }
  return text;
}

std::string sweep_markdown(const json& report) {
  const std::vector<std::string> sets = sets_of(report);
  const std::string names =
      sets.empty() ? "ppl" : core::printable(fmt::format("ppl {}", fmt::join(sets, " / ")));
  std::string text = fmt::format(
      "| trial | r | c | cache B/token | cache | parameters | {} before | after | mean NLL before "
      "| "
      "after | tokens/s | seconds | exit "
      "|\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
      names);
  for (const json& row : report.at("trials")) {
    const bool over = row.at("state") == "done" || row.at("state") == "failed";
    const std::string exit = over ? text_of(row.at("exit_code")) : text_of(row.at("state"));
    text +=
        fmt::format("| {} | {} | {} | {} | {:.2f} % | {} | {} | {} | {} | {} | {} | {} | {} |\n",
                    text_of(row.at("id")), text_of(row.at("rope_pairs_per_head")),
                    text_of(row.at("latent_dims_per_kv_head")),
                    text_of(row.at("cache_bytes_per_token").at("after")),
                    row.at("cache_percent").get<double>(), text_of(row.at("parameters")),
                    joined_ppl(row, "before", sets), joined_ppl(row, "after", sets),
                    rounded(mean_of(row, "before"), 4), rounded(mean_of(row, "after"), 4),
                    rounded(row.at("tokens_per_second"), 0), rounded(row.at("seconds"), 1), exit);
  }
  return text;
}

void write_sweep_tables(const SweepPlan& plan) {
  const FileLock lock = FileLock::wait_for(plan.folder / "queue" / "tables.lock");
  const json report = sweep_report(plan);
  core::write_file_atomically(plan.folder / "sweep.json",
                              report.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
  core::write_file_atomically(plan.folder / "sweep.csv", sweep_csv(report));
  core::write_file_atomically(plan.folder / "sweep.md", sweep_markdown(report));
}

std::string sweep_list(const SweepPlan& plan, const json& report,
                       const std::vector<size_t>& selected) {
  size_t width = 5;
  for (const size_t t : selected) width = std::max(width, plan.trials[t].id.size());
  const std::optional<double> speed = mean_speed(report);
  std::string text = fmt::format("{:<{}}  {:>4}  {:>4}  {:>8}  {:>8}  {:>8}  {}\n", "trial", width,
                                 "r", "c", "cache", "tokens", "time", "state");
  double left = 0;
  for (const size_t t : selected) {
    const json& row = report.at("trials").at(t);
    const auto tokens = static_cast<double>(plan.trials[t].tokens());
    const double done = std::fmax(0.0, number_at(row, {"tokens"}));  // NaN: 0
    left += tokens - std::fmin(done, tokens);
    text += fmt::format(
        "{:<{}}  {:>4}  {:>4}  {:>6.2f} %  {:>8}  {:>8}  {}\n", plan.trials[t].id, width,
        text_of(row.at("rope_pairs_per_head")), text_of(row.at("latent_dims_per_kv_head")),
        row.at("cache_percent").get<double>(), core::format_count(tokens),
        speed ? core::format_duration(tokens / *speed) : "unknown", text_of(row.at("state")));
  }
  return text + fmt::format("{} trials, {} tokens to go: {}", selected.size(),
                            core::format_count(left),
                            speed ? core::format_duration(left / *speed) + " of one group of ranks"
                                  : "time unknown until a trial is done");
}

}  // namespace trainer
