#include "trainer/sweep/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "core/file.h"
#include "core/text.h"
#include "trainer/config/scalars.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using Kind = YamlNode::Kind;

// Every trial has a copy of its values.
constexpr size_t kLongestValue = 1024;

std::string describe(const YamlNode& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "null";
    case Kind::kList:
      return fmt::format("a list of {}", node.items.size());
    case Kind::kMap:
      return "a mapping";
    case Kind::kScalar:
      break;
  }
  return quoted_for_message(node.text);
}

// The texts of which something has to be one.
class AllowedTexts {
 public:
  void add(const std::string& text) {
    if (known_.insert(text).second) in_order_.push_back(text);
  }
  bool contain(const std::string& text) const { return known_.contains(text); }
  const std::vector<std::string>& in_order() const { return in_order_; }

  // For a message, which has no room for thousands, nor for long ones.
  std::string listed() const {
    constexpr size_t kMostListed = 16;
    std::vector<std::string> shown;
    for (size_t i = 0; i < std::min(in_order_.size(), kMostListed); ++i)
      shown.push_back(in_order_[i].substr(0, 64));
    const std::string more = in_order_.size() > kMostListed
                                 ? fmt::format(" and {} more", in_order_.size() - kMostListed)
                                 : "";
    return fmt::format("{}{}", fmt::join(shown, ", "), more);
  }

 private:
  std::vector<std::string> in_order_;
  std::set<std::string> known_;
};

class SweepReader {
 public:
  SweepReader(const fs::path& path, Problems& problems) : problems_(problems) {
    sweep_.path = (fs::current_path() / path).lexically_normal();
    sweep_.name = sweep_.path.stem();
  }

  SweepConfig read(const YamlNode& root) {
    read_keys(root, "",
              {{"base", [this](const YamlNode& n) { read_base(n); }},
               {"sweep", [this](const YamlNode& n) { read_sweep(n); }}});
    if (root.kind == Kind::kMap && root.find("base") == nullptr)
      problems_.add({1, 1}, {.field = "base",
                             .expected = "the configuration to start from",
                             .found = "nothing",
                             .hint = "add base: CONFIG.yaml"});
    check_together();
    return std::move(sweep_);
  }

 private:
  struct Known {
    const char* name;
    std::function<void(const YamlNode&)> read;
  };

  void refuse(const YamlNode& node, const std::string& key, const std::string& expected,
              const std::string& hint = "") {
    problems_.add(node.origin.line > 0 ? node.origin : Origin{1, 1},  // of an empty file
                  {.field = key, .expected = expected, .found = describe(node), .hint = hint});
  }

  void read_keys(const YamlNode& node, const std::string& prefix, const std::vector<Known>& known) {
    std::vector<std::string> names;
    for (const Known& key : known) names.emplace_back(key.name);
    if (node.kind != Kind::kMap)
      return refuse(node, prefix.empty() ? "file" : prefix.substr(0, prefix.size() - 1),
                    fmt::format("a mapping of {}", fmt::join(names, ", ")));
    for (const YamlEntry& entry : node.entries) {
      const auto found = std::find(names.begin(), names.end(), entry.key);
      if (found == names.end()) {
        const std::string near = core::nearest(entry.key.substr(0, 64), names);
        problems_.add(
            entry.origin,
            {.field = prefix + entry.key.substr(0, 64),
             .expected = fmt::format("{}", fmt::join(names, ", ")),
             .found = "unknown key " + quoted_for_message(entry.key),
             .hint = near.empty() ? "" : fmt::format("did you mean '{}{}'?", prefix, near)});
      } else if (!entry.value.is_null()) {
        known[static_cast<size_t>(found - names.begin())].read(entry.value);
      }
    }
  }

  void read_base(const YamlNode& node) {
    if (node.kind != Kind::kScalar || node.text.empty()) return refuse(node, "base", "a path");
    sweep_.base = (sweep_.path.parent_path() / node.text).lexically_normal();
  }

  void read_sweep(const YamlNode& node) {
    read_keys(node, "sweep.",
              {{"name", [this](const YamlNode& n) { read_name(n); }},
               {"set", [this](const YamlNode& n) { sweep_.set = read_settings(n, "sweep.set"); }},
               {"grid", [this](const YamlNode& n) { read_grid(n); }},
               {"zip", [this](const YamlNode& n) { read_zip(n); }},
               {"exclude", [this](const YamlNode& n) { read_exclude(n); }},
               {"budget",
                [this](const YamlNode& n) {
                  read_keys(n, "sweep.budget.",
                            {{"cache_ratio", [this](const YamlNode& r) { read_ratios(r); }}});
                }},
               {"ranks_per_trial", [this](const YamlNode& n) { read_ranks(n); }},
               {"baseline", [this](const YamlNode& n) { read_baseline(n); }}});
  }

  void read_name(const YamlNode& node) {
    const bool good = node.kind == Kind::kScalar && !node.text.empty() && node.text[0] != '.' &&
                      node.text.size() < 200 && node.text.find('/') == std::string::npos;
    if (!good) return refuse(node, "sweep.name", "a folder name: no '/', no leading '.'");
    sweep_.name = node.text;
  }

  SweepValue read_value(const YamlNode& node, const std::string& key) {
    if (node.kind != Kind::kScalar) refuse(node, key, "one number or text");
    if (node.text.size() > kLongestValue)
      refuse(node, key, fmt::format("at most {} characters", kLongestValue));
    return {node.text, node.quoted, node.origin};
  }

  // A key of the configuration that nothing else gives.
  void note_key(const YamlEntry& entry, const std::string& where) {
    if (entry.key.starts_with("general.") && entry.key != "general.seed")
      problems_.add(entry.origin,
                    {.field = where + "." + entry.key,
                     .expected = "a key that changes the trial",
                     .found = "one that names or places a run",
                     .hint = "set it in the base; the sweep names the runs of its trials"});
    if (!keys_.insert(entry.key).second)
      problems_.add(entry.origin, {.field = where + "." + entry.key,
                                   .expected = "each key once in set, grid and zip",
                                   .found = "it again"});
  }

  std::vector<SweepSetting> read_settings(const YamlNode& node, const std::string& where) {
    std::vector<SweepSetting> settings;
    if (node.kind != Kind::kMap) {
      refuse(node, where, "a mapping of key: value");
      return settings;
    }
    for (const YamlEntry& entry : node.entries) {
      if (where == "sweep.set") note_key(entry, where);
      settings.push_back({entry.key, read_value(entry.value, where + "." + entry.key)});
    }
    return settings;
  }

  SweepKey read_list(const YamlEntry& entry, const std::string& where) {
    note_key(entry, where);
    SweepKey key{entry.key, entry.origin, {}};
    const std::string field = where + "." + entry.key;
    if (entry.value.kind != Kind::kList || entry.value.items.empty()) {
      refuse(entry.value, field, "a list of values", "write [a, b]");
      return key;
    }
    std::set<std::string> seen;
    for (const YamlNode& item : entry.value.items) {
      SweepValue value = read_value(item, field);
      const bool again = !seen.insert(value.text).second;
      if (again && where == "sweep.grid") refuse(item, field, "each value once");
      key.values.push_back(std::move(value));
    }
    return key;
  }

  void read_grid(const YamlNode& node) {
    varies_ = true;
    if (node.kind != Kind::kMap) return refuse(node, "sweep.grid", "a mapping of key: [values]");
    for (const YamlEntry& entry : node.entries)
      sweep_.groups.push_back({read_list(entry, "sweep.grid")});
  }

  void read_zip(const YamlNode& node) {
    varies_ = true;
    if (node.kind != Kind::kList)
      return refuse(node, "sweep.zip", "a list of mappings of key: [values]");
    for (const YamlNode& item : node.items) {
      if (item.kind != Kind::kMap || item.entries.size() < 2) {
        refuse(item, "sweep.zip", "a mapping of two or more keys: [values]");
        continue;
      }
      std::vector<SweepKey>& group = sweep_.groups.emplace_back();
      for (const YamlEntry& entry : item.entries) group.push_back(read_list(entry, "sweep.zip"));
      for (const SweepKey& key : group)
        if (key.values.size() != group[0].values.size())
          problems_.add(key.origin, {.field = "sweep.zip." + key.key,
                                     .expected = fmt::format("as many values as {} has, {}",
                                                             group[0].key, group[0].values.size()),
                                     .found = std::to_string(key.values.size())});
    }
  }

  void read_exclude(const YamlNode& node) {
    if (node.kind != Kind::kList)
      return refuse(node, "sweep.exclude", "a list of mappings of key: value");
    for (const YamlNode& item : node.items) {
      if (item.kind != Kind::kMap || item.entries.empty())
        refuse(item, "sweep.exclude", "a mapping of key: value");
      else
        sweep_.exclude.push_back(read_settings(item, "sweep.exclude"));
    }
  }

  void read_ratios(const YamlNode& node) {
    varies_ = true;
    const bool list = node.kind == Kind::kList;
    for (const YamlNode& item : list ? node.items : std::vector<YamlNode>{node}) {
      const std::optional<double> ratio =
          item.kind == Kind::kScalar && !item.quoted ? parse_decimal(item.text) : std::nullopt;
      if (!ratio || *ratio <= 0 || *ratio > 1 || item.text.size() > kLongestValue)
        refuse(item, "sweep.budget.cache_ratio", "a number in (0, 1], or a list of them");
      else
        sweep_.cache_ratios.push_back({item.text, false, item.origin});
    }
  }

  void read_ranks(const YamlNode& node) {
    const std::optional<int64_t> ranks =
        node.kind == Kind::kScalar && !node.quoted ? parse_integer(node.text) : std::nullopt;
    if (!ranks || *ranks < 1 || *ranks > 65536)
      return refuse(node, "sweep.ranks_per_trial", "integer in [1, 65536]");
    sweep_.ranks_per_trial = *ranks;
  }

  void read_baseline(const YamlNode& node) {
    const bool is_bool =
        node.kind == Kind::kScalar && !node.quoted && (node.text == "true" || node.text == "false");
    if (!is_bool) return refuse(node, "sweep.baseline", "true or false");
    sweep_.baseline = node.text == "true";
  }

  // What is excluded must be there to be excluded: anything else is a misspelling.
  void check_together() {
    if (!varies_)
      problems_.add(
          {1, 1},
          {.field = "sweep", .expected = "a grid, a zip or a budget", .found = "nothing to vary"});
    AllowedTexts keys;
    std::map<std::string, AllowedTexts> values;  // by key
    for (const std::vector<SweepKey>& group : sweep_.groups)
      for (const SweepKey& key : group) {
        keys.add(key.key);
        AllowedTexts& of_key = values[key.key];
        for (const SweepValue& value : key.values) of_key.add(value.text);
      }
    for (const std::vector<SweepSetting>& all : sweep_.exclude)
      for (const SweepSetting& setting : all) {
        const auto of_key = values.find(setting.key);
        const bool known = of_key != values.end();
        check_excluded(setting, known, known ? of_key->second : keys);
      }
  }

  // `choices`: the values of the setting's key or, if that is not known, the keys.
  void check_excluded(const SweepSetting& setting, bool known, const AllowedTexts& choices) {
    const std::string& found = known ? setting.value.text : setting.key;
    if (choices.contain(found)) return;
    if (problems_.is_full()) return problems_.add(setting.value.origin, {});  // which counts it
    const std::string near = core::nearest(found.substr(0, 64), choices.in_order());
    problems_.add(setting.value.origin,
                  {.field = known ? "sweep.exclude." + setting.key : "sweep.exclude",
                   .expected = "one of " + choices.listed(),
                   .found = quoted_for_message(found),
                   .hint = near.empty() ? "" : fmt::format("did you mean '{}'?", near)});
  }

  SweepConfig sweep_;
  Problems& problems_;
  bool varies_ = false;  // something is swept, right or wrong
  std::set<std::string> keys_;
};

}  // namespace

std::string SweepSetting::override_text() const {
  if (!value.quoted) return key + "=" + value.text;
  std::string quoted;
  for (const char c : value.text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return fmt::format("{}=\"{}\"", key, quoted);
}

SweepConfig parse_sweep(std::string_view text, const fs::path& path) {
  Problems problems(path);
  const YamlNode root = parse_yaml(text, problems);
  SweepConfig sweep = SweepReader(path, problems).read(root);
  problems.fail_if_any();
  return sweep;
}

SweepConfig load_sweep(const fs::path& path) {
  return parse_sweep(core::read_text(path, uint64_t{1} << 20), path);
}

}  // namespace trainer
