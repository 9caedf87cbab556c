#include "trainer/sweep/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "trainer/config/did_you_mean.h"
#include "trainer/config/scalars.h"
#include "trainer/models/calibration.h"
#include "trainer/run/prepare.h"
#include "trainer/sweep/budget.h"
#include "trainer/sweep/plan_problems.h"

namespace trainer {
namespace {

using core::ExitCode;

// A few lines can ask for any number of trials, and each of them reads and keeps every setting.
constexpr size_t kMaxTrials = 10000;
constexpr size_t kMaxAxes = 64, kMaxSet = 256;
constexpr size_t kMaxSettings = 100'000;  // of all trials together
constexpr uint64_t kMaxBaseBytes = uint64_t{1} << 20;
constexpr uint64_t kMaxParsedBytes = uint64_t{1} << 26;  // of the base, by all trials together
constexpr char kBudgetKey[] = "sweep.budget.cache_ratio";

// One point of the product: a value of the sweep for each axis, in their order.
using Point = std::vector<const SweepValue*>;

// Short names where they say enough; the dotted key where two would be the same.
std::vector<SweepAxis> name_axes(const SweepConfig& sweep) {
  static const std::map<std::string, std::string> known = {
      {"mla.rope.strategy", "rope"},
      {"mla.rope.rope_pairs_per_head", "r"},
      {"mla.latent.latent_dims_per_kv_head", "c"},
      {kBudgetKey, "cache"}};
  std::vector<SweepAxis> axes;
  for (const std::vector<SweepKey>& group : sweep.groups)
    for (const SweepKey& key : group) axes.push_back({"", key.key, key.values});
  if (sweep.cache_ratios.size() > 1) axes.push_back({"", kBudgetKey, sweep.cache_ratios});
  std::map<std::string, int> uses;
  for (SweepAxis& axis : axes) {
    const auto found = known.find(axis.key);
    axis.name = found != known.end() ? found->second : axis.key.substr(axis.key.rfind('.') + 1);
    ++uses[axis.name];
  }
  for (SweepAxis& axis : axes)
    if (uses[axis.name] > 1) axis.name = axis.key;
  return axes;
}

// Throws kBadConfig for a product that is too large; nothing of it is made before.
void check_size(const SweepConfig& sweep) {
  const auto require = [&](bool good, const std::string& expected, const std::string& found) {
    if (!good)
      core::fail(ExitCode::kBadConfig,
                 {.path = sweep.path, .field = "sweep", .expected = expected, .found = found});
  };
  size_t axes = sweep.cache_ratios.size() > 1 ? 1 : 0;
  size_t trials = std::max<size_t>(1, sweep.cache_ratios.size());
  const std::string most_trials = fmt::format("at most {} trials", kMaxTrials);
  require(trials <= kMaxTrials, most_trials, "more");
  for (const std::vector<SweepKey>& group : sweep.groups) {
    axes += group.size();
    trials *= group[0].values.size();
    require(trials <= kMaxTrials, most_trials, "more");
  }
  require(axes <= kMaxAxes, fmt::format("at most {} keys that vary", kMaxAxes),
          std::to_string(axes));
  require(sweep.set.size() <= kMaxSet, fmt::format("at most {} keys in set", kMaxSet),
          std::to_string(sweep.set.size()));
  require(trials * (axes + sweep.set.size()) <= kMaxSettings,
          fmt::format("at most {} settings of all trials together", kMaxSettings),
          fmt::format("{} trials of {}", trials, axes + sweep.set.size()));
}

// All points, the last group varying fastest.
std::vector<Point> points_of(const SweepConfig& sweep) {
  check_size(sweep);
  std::vector<Point> points = {{}};
  const auto extend = [&](size_t choices, const std::function<void(Point&, size_t)>& add) {
    std::vector<Point> longer;
    for (const Point& point : points)
      for (size_t i = 0; i < choices; ++i) add(longer.emplace_back(point), i);
    points = std::move(longer);
  };
  for (const std::vector<SweepKey>& group : sweep.groups)
    extend(group[0].values.size(), [&](Point& point, size_t i) {
      for (const SweepKey& key : group) point.push_back(&key.values[i]);
    });
  if (sweep.cache_ratios.size() > 1)
    extend(sweep.cache_ratios.size(),
           [&](Point& point, size_t i) { point.push_back(&sweep.cache_ratios[i]); });
  return points;
}

// Safe as part of a folder's name; of a path, its last name.
std::string id_text(const SweepValue& value) {
  std::string text = value.text.substr(value.text.rfind('/') + 1);
  for (char& c : text) {
    const bool safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '-' || c == '+' || c == '_';
    if (!safe) c = '_';
  }
  return text;
}

std::string describe(const Trial& trial) {
  std::string text = trial.baseline ? "baseline" : "";
  for (const auto& [name, value] : trial.settings)
    text += fmt::format("{}{}={}", text.empty() ? "" : ",", name, id_text(value));
  return text;
}

// The text of the configuration from which that many trials start.
std::string read_base(const SweepConfig& sweep, size_t trials) {
  std::string text;
  try {
    text = core::read_text(sweep.base, kMaxBaseBytes);
  } catch (const core::Error& e) {
    if (e.code() != ExitCode::kBadData) throw;
    throw core::Error(ExitCode::kBadConfig, e.what());
  }
  if (text.size() * trials > kMaxParsedBytes)
    core::fail(ExitCode::kBadConfig, {.path = sweep.base,
                                      .field = "size",
                                      .expected = fmt::format("at most {} bytes for {} trials",
                                                              kMaxParsedBytes / trials, trials),
                                      .found = std::to_string(text.size())});
  return text;
}

class Planner {
 public:
  Planner(const SweepConfig& sweep, const std::vector<std::string>& overrides,
          const ReadSpec& read_spec)
      : sweep_(sweep), overrides_(overrides), read_spec_(read_spec), problems_(sweep.path) {
    plan_.name = sweep.name;
    plan_.file = sweep.path;
    plan_.ranks_per_trial = sweep.ranks_per_trial;
    plan_.axes = name_axes(sweep);
  }

  SweepPlan plan() {
    const std::vector<Point> points = points_of(sweep_);
    base_ = read_base(sweep_, points.size());
    find_excluded();
    for (const Point& point : points) {
      if (problems_.is_full()) break;
      if (!is_excluded(point)) add_point(point);
    }
    problems_.fail_if_any();
    if (plan_.trials.empty())
      problems_.add("error: sweep.exclude: expected a trial to be left, got none", {});
    problems_.fail_if_any();
    if (sweep_.baseline) add_baselines();
    name_trials();
    problems_.fail_if_any();
    return std::move(plan_);
  }

 private:
  // Looks up the axes of the exclusions once: there may be thousands, for thousands of points.
  // Requires: their keys are those of axes.
  void find_excluded() {
    std::map<std::string, size_t> axis_of;
    for (size_t i = 0; i < plan_.axes.size(); ++i) axis_of.emplace(plan_.axes[i].key, i);
    for (const std::vector<SweepSetting>& all : sweep_.exclude) {
      std::vector<std::pair<size_t, const SweepValue*>>& excluded = excluded_.emplace_back();
      for (const SweepSetting& setting : all)
        excluded.emplace_back(axis_of.at(setting.key), &setting.value);
    }
  }

  bool is_excluded(const Point& point) const {
    return std::any_of(excluded_.begin(), excluded_.end(), [&](const auto& all) {
      return std::all_of(all.begin(), all.end(), [&](const auto& setting) {
        return *point[setting.first] == *setting.second;
      });
    });
  }

  void add_point(const Point& point) {
    std::vector<SweepSetting> settings = sweep_.set;
    Trial trial;
    const SweepValue* ratio = sweep_.cache_ratios.empty() ? nullptr : &sweep_.cache_ratios[0];
    for (size_t i = 0; i < point.size(); ++i) {
      const SweepAxis& axis = plan_.axes[i];
      trial.settings.emplace_back(axis.name, *point[i]);
      if (axis.key == kBudgetKey)
        ratio = point[i];
      else
        settings.push_back({axis.key, *point[i]});
    }
    FileOverrides first{{}, sweep_.path.parent_path()};
    for (const SweepSetting& setting : settings) first.texts.push_back(setting.override_text());
    try {
      trial.config = parse_config(base_, sweep_.base, overrides_, first);
      const model::ModelSpec& source = spec_of(trial.config.model.init_from);
      if (ratio != nullptr) fit_to_budget(trial.config, source, *ratio, derives_pairs());
      measure_cache(trial, source);
      plan_.trials.push_back(std::move(trial));
    } catch (const core::Error& e) {
      if (e.code() != ExitCode::kBadConfig) throw;
      problems_.add(e.what(), settings);
    }
  }

  // A swept latent is kept, and the pairs are fitted to it.
  bool derives_pairs() const {
    return std::any_of(plan_.axes.begin(), plan_.axes.end(), [](const SweepAxis& axis) {
      return axis.key == "mla.latent.latent_dims_per_kv_head";
    });
  }

  const model::ModelSpec& spec_of(const std::string& init_from) {
    const auto found = specs_.find(init_from);
    if (found != specs_.end()) return found->second;
    return specs_.emplace(init_from, read_spec_(init_from)).first->second;
  }

  static void measure_cache(Trial& trial, const model::ModelSpec& source) {
    trial.cache_before = trial.cache_after = source.cache_elements_per_token();
    if (!trial.config.mla || source.is_converted()) return;
    const model::PairNorms norms = equal_pair_norms(source.config);
    trial.cache_after =
        model::converted_spec(source, conversion_options(*trial.config.mla, source.config.pairs()),
                              &norms)
            .cache_elements_per_token();
  }

  // One for each way in which the trials are fine-tuned, unless it is a trial already.
  void add_baselines() {
    std::set<std::string> seen;
    for (const Trial& trial : plan_.trials)
      if (!trial.config.mla) seen.insert(identity_of(trial.config));
    std::vector<Trial> baselines;
    for (const Trial& trial : plan_.trials) {
      Trial baseline{.id = {}, .baseline = true, .config = trial.config};
      baseline.config.mla.reset();
      if (!seen.insert(identity_of(baseline.config)).second) continue;
      const model::ModelSpec& source = spec_of(baseline.config.model.init_from);
      if (source.is_converted())
        core::fail(ExitCode::kBadConfig, {.path = sweep_.path,
                                          .field = "sweep.baseline",
                                          .expected = "an unconverted model",
                                          .found = baseline.config.model.init_from,
                                          .hint = "set it to false"});
      measure_cache(baseline, source);
      for (size_t i = 0; i < trial.settings.size(); ++i) {
        const std::string& key = plan_.axes[i].key;
        if (!key.starts_with("mla.") && key != kBudgetKey)
          baseline.settings.push_back(trial.settings[i]);
      }
      baselines.push_back(std::move(baseline));
    }
    plan_.trials.insert(plan_.trials.begin(), baselines.begin(), baselines.end());
  }

  // Names, folders, and what is the trials' business no more.
  void name_trials() {
    constexpr size_t kLongestText = 150;
    std::map<std::string, std::string> names;  // hash -> trial
    const GeneralConfig general = plan_.trials[0].config.general;
    plan_.folder = std::filesystem::path(general.output_dir) / general.project / plan_.name;
    plan_.max_time = general.max_time;
    for (Trial& trial : plan_.trials) {
      if (problems_.is_full()) return;
      const std::string text = describe(trial).substr(0, kLongestText);
      const std::string hash = core::hash_hex(identity_of(trial.config));
      const auto [other, is_new] = names.emplace(hash, text);
      if (!is_new)
        problems_.add(fmt::format("error: sweep: expected trials that differ, got the same "
                                  "configuration for {} and {}",
                                  other->second, text),
                      {});
      trial.id = fmt::format("{}-{}", text, hash.substr(0, 6));
      GeneralConfig& own = trial.config.general;
      own.output_dir = plan_.folder.parent_path();
      own.project = plan_.name;
      own.run = trial.id;
      own.max_time.clear();
    }
  }

  const SweepConfig& sweep_;
  const std::vector<std::string>& overrides_;
  const ReadSpec& read_spec_;
  PlanProblems problems_;
  SweepPlan plan_;
  std::string base_;
  std::vector<std::vector<std::pair<size_t, const SweepValue*>>> excluded_;  // axis, value
  std::map<std::string, model::ModelSpec> specs_;
};

[[noreturn]] void refuse_option(const std::string& option, const std::string& expected,
                                const std::string& found, const std::string& hint = "") {
  core::fail(ExitCode::kUsage, {.path = "mha2mla sweep",
                                .field = option,
                                .expected = expected,
                                .found = "\"" + found + "\"",
                                .hint = hint});
}

// The axis that `only` names, and the text of the value; null: baseline.
std::pair<const SweepAxis*, std::string> parse_only(const SweepPlan& plan,
                                                    const std::string& only) {
  const size_t equals = only.find('=');
  if (equals == std::string::npos) refuse_option("--only", "name=value", only);
  const std::string name = only.substr(0, equals), value = only.substr(equals + 1);
  std::vector<std::string> names = {"baseline"};
  for (const SweepAxis& axis : plan.axes) {
    names.push_back(axis.name);
    if (axis.name != name && axis.key != name) continue;
    std::vector<std::string> values;
    for (const SweepValue& v : axis.values) values.push_back(v.text);
    if (std::find(values.begin(), values.end(), value) == values.end())
      refuse_option("--only " + name, fmt::format("one of {}", fmt::join(values, ", ")), value,
                    did_you_mean(value, values));
    return {&axis, value};
  }
  if (name != "baseline")
    refuse_option("--only", fmt::format("one of {}", fmt::join(names, ", ")), name,
                  did_you_mean(name, names));
  if (value != "true" && value != "false") refuse_option("--only baseline", "true or false", value);
  return {nullptr, value};
}

bool matches(const Trial& trial, const std::pair<const SweepAxis*, std::string>& wanted) {
  if (wanted.first == nullptr) return trial.baseline == (wanted.second == "true");
  return std::any_of(trial.settings.begin(), trial.settings.end(), [&](const auto& setting) {
    return setting.first == wanted.first->name && setting.second.text == wanted.second;
  });
}

}  // namespace

int64_t Trial::tokens() const {
  const TokensConfig& t = config.tokens;
  return t.train_steps * t.global_batch_size * t.sequence_length;
}

SweepPlan plan_sweep(const SweepConfig& sweep, const std::vector<std::string>& overrides,
                     const ReadSpec& read_spec) {
  return Planner(sweep, overrides, read_spec).plan();
}

std::vector<size_t> select_trials(const SweepPlan& plan, const std::vector<std::string>& only,
                                  const std::string& shard) {
  int64_t first = 1, shards = 1;
  if (!shard.empty()) {
    const size_t slash = std::min(shard.find('/'), shard.size());
    const auto i = parse_integer(shard.substr(0, slash));
    const auto n = parse_integer(shard.substr(std::min(slash + 1, shard.size())));
    if (!i || !n || *i < 1 || *n < 1 || *i > *n)
      refuse_option("--shard", "i/n with 1 <= i <= n", shard);
    first = *i, shards = *n;
  }
  std::vector<std::pair<const SweepAxis*, std::string>> wanted;
  for (const std::string& text : only) wanted.push_back(parse_only(plan, text));
  std::vector<size_t> selected;
  for (size_t t = 0; t < plan.trials.size(); ++t) {
    const bool in_shard = static_cast<int64_t>(t) % shards == first - 1;
    const bool has_all = std::all_of(wanted.begin(), wanted.end(),
                                     [&](const auto& w) { return matches(plan.trials[t], w); });
    if (in_shard && has_all) selected.push_back(t);
  }
  return selected;
}

}  // namespace trainer
