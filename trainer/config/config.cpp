// Loading: the tree of the file, the overrides spliced in, every section read by its fields().
#include "trainer/config/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <system_error>

#include "core/file.h"
#include "core/text.h"
#include "trainer/config/aliases.h"
#include "trainer/config/check.h"
#include "trainer/config/scalars.h"
#include "trainer/config/yaml.h"

namespace trainer {
namespace {

// Dotted names of all keys, without the indices of lists.
struct KeyNames {
  std::vector<std::string> dotted;

  KeyNames() {
    const Config config;
    visit(config, "");
  }

  template <Section S>
  void visit(const S& section, const std::string& prefix) {
    S::fields(section, [&](const auto& value, const Key& key) {
      dotted.push_back(prefix + key.name);
      descend(value, prefix + key.name + ".");
    });
  }
  template <class T>
  void descend(const T& value, const std::string& prefix) {
    if constexpr (Section<T>) visit(value, prefix);
  }
  template <Section S>
  void descend(const std::optional<S>&, const std::string& prefix) {
    visit(S(), prefix);
  }
  template <Section S>
  void descend(const std::vector<S>&, const std::string& prefix) {
    visit(S(), prefix);
  }
};

std::string last_name(const std::string& dotted) { return dotted.substr(dotted.rfind('.') + 1); }

// The advice for an unknown key of the section `prefix` ("optimizer.") with the keys `siblings`.
std::string hint_for_unknown_key(const std::string& name, const std::string& prefix,
                                 const std::vector<std::string>& siblings) {
  constexpr size_t kLongestName = 64;
  if (name.size() > kLongestName) return "";
  if (std::string advice = advice_for_foreign_key(name); !advice.empty()) return advice;
  static const KeyNames names;
  std::vector<std::string> last_names = siblings;  // first: of equally near keys the own ones win
  for (const std::string& dotted : names.dotted) last_names.push_back(last_name(dotted));
  const bool is_known = std::find(last_names.begin(), last_names.end(), name) != last_names.end();
  const std::string near = is_known ? name : core::nearest(name, last_names);
  if (near.empty()) return "`mha2mla config --defaults` lists all keys";
  if (std::find(siblings.begin(), siblings.end(), near) != siblings.end())
    return fmt::format("did you mean '{}{}'?", prefix, near);
  const auto found = std::find_if(names.dotted.begin(), names.dotted.end(),
                                  [&](const std::string& d) { return last_name(d) == near; });
  return fmt::format("did you mean '{}'?", *found);
}

std::string describe_node(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNull:
      return "null";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a mapping";
    case YamlNode::Kind::kScalar:
      break;
  }
  const bool is_number = !node.quoted && parse_decimal(node.text).has_value();
  return is_number ? node.text : quoted_for_message(node.text);
}

class Loader {
 public:
  Loader(fs::path config_folder, const FileOverrides& first, Problems& problems)
      : config_folder_(std::move(config_folder)), first_(first), problems_(problems) {}

  template <Section S>
  void read(S& section, const Key*, const YamlNode& node, const std::string& path) {
    note(path, node.origin);
    if (node.kind != YamlNode::Kind::kMap) return refuse(node, path, "a mapping of keys");
    const std::string prefix = path.empty() ? "" : path + ".";
    std::vector<std::string> known;
    S::fields(section, [&](auto& value, const Key& key) {
      known.push_back(key.name);
      const YamlNode* child = node.find(key.name);
      if (child != nullptr && !child->is_null()) read(value, &key, *child, prefix + key.name);
    });
    for (const YamlEntry& entry : node.entries)
      if (std::find(known.begin(), known.end(), entry.key) == known.end())
        refuse_unknown(entry, prefix, known);
  }

  template <Section S>
  void read(std::optional<S>& section, const Key* key, const YamlNode& node,
            const std::string& path) {
    read(section.emplace(), key, node, path);
  }

  template <Section S>
  void read(std::vector<S>& list, const Key* key, const YamlNode& node, const std::string& path) {
    note(path, node.origin);
    if (node.kind != YamlNode::Kind::kList) return refuse(node, path, "a list of mappings");
    for (size_t i = 0; i < node.items.size(); ++i)
      read(list.emplace_back(), key, node.items[i], fmt::format("{}.{}", path, i));
  }

  void read(int64_t& value, const Key* key, const YamlNode& node, const std::string& path) {
    note(path, node.origin);
    const std::optional<int64_t> parsed = plain_integer(node);
    if (!key->choices.empty()) {
      const auto& c = key->choices;
      if (!parsed || std::find(c.begin(), c.end(), node.text) == c.end())
        return refuse(node, path, describe_choices(*key), "other values are not supported");
    } else if (!parsed || static_cast<double>(*parsed) < key->min) {
      return refuse(node, path, describe_integer(*key), parsed ? "" : integer_hint(node));
    } else if (!is_in_range(*key, static_cast<double>(*parsed))) {
      return refuse(node, path, fmt::format("integer <= {:.0f}", key->max));
    }
    value = *parsed;
  }

  void read(double& value, const Key* key, const YamlNode& node, const std::string& path) {
    note(path, node.origin);
    const bool is_plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
    const std::optional<double> parsed = is_plain ? parse_decimal(node.text) : std::nullopt;
    if (!parsed || !is_in_range(*key, *parsed)) return refuse(node, path, describe_number(*key));
    value = *parsed;
  }

  void read(ThreadCount& value, const Key* key, const YamlNode& node, const std::string& path) {
    note(path, node.origin);
    const std::optional<int64_t> parsed = plain_integer(node);
    if (node.kind == YamlNode::Kind::kScalar && node.text == "auto") {
      value.count = 0;
    } else if (parsed && is_in_range(*key, static_cast<double>(*parsed))) {
      value.count = *parsed;
    } else {
      refuse(node, path, fmt::format("auto or integer in [{}, {}]", key->min, key->max));
    }
  }

  void read(std::string& value, const Key* key, const YamlNode& node, const std::string& path) {
    note(path, node.origin);
    if (!is_text(node, path, *key)) return;
    if (!key->choices.empty()) {
      if (std::find(key->choices.begin(), key->choices.end(), node.text) != key->choices.end()) {
        value = node.text;
        return;
      }
      const std::string near = core::nearest(node.text.substr(0, 64), key->choices);
      return refuse(node, path, describe_choices(*key),
                    near.empty() ? "" : fmt::format("did you mean '{}'?", near));
    }
    value = key->path == PathBase::kNotAPath ? node.text : resolve_path(node, path, *key);
  }

  void read(std::vector<std::string>& list, const Key* key, const YamlNode& node,
            const std::string& path) {
    note(path, node.origin);
    if (node.kind == YamlNode::Kind::kScalar) return read(list.emplace_back(), key, node, path);
    if (node.kind != YamlNode::Kind::kList) return refuse(node, path, "a path or a list of paths");
    for (size_t i = 0; i < node.items.size(); ++i)
      read(list.emplace_back(), key, node.items[i], fmt::format("{}.{}", path, i));
  }

  void read(std::vector<double>& list, const Key* key, const YamlNode& node,
            const std::string& path) {
    note(path, node.origin);
    if (node.kind != YamlNode::Kind::kList) return refuse(node, path, "a list of numbers");
    for (size_t i = 0; i < node.items.size(); ++i)
      read(list.emplace_back(), key, node.items[i], fmt::format("{}.{}", path, i));
  }

  void read(NamedPaths& paths, const Key* key, const YamlNode& node, const std::string& path) {
    note(path, node.origin);
    if (node.kind != YamlNode::Kind::kMap) return refuse(node, path, "a mapping of name: path");
    for (const YamlEntry& entry : node.entries) {
      paths.emplace_back(entry.key, "");
      read(paths.back().second, key, entry.value, path + "." + entry.key);
    }
  }

  std::set<std::string> given_keys() const {
    std::set<std::string> keys;
    for (const auto& [key, origin] : origins_) keys.insert(key);
    return keys;
  }

  // Where `key` was written, or the nearest section around it.
  Origin origin_of(std::string key) const {
    while (true) {
      if (const auto found = origins_.find(key); found != origins_.end()) return found->second;
      if (key.empty()) return {1, 1};
      const size_t dot = key.rfind('.');
      key = dot == std::string::npos ? "" : key.substr(0, dot);
    }
  }

  bool was_refused(const std::string& key) const { return refused_.contains(key); }

  // Not given, but a key that nobody knows was meant to be it: not missing as well.
  bool was_misspelt(const std::string& key) const {
    return misspelt_.contains(key) && !origins_.contains(key);
  }

 private:
  void note(const std::string& path, const Origin& origin) { origins_.emplace(path, origin); }

  void refuse(const YamlNode& node, const std::string& path, const std::string& expected,
              const std::string& hint = "") {
    refused_.insert(path);
    problems_.add(
        node.origin,
        {.field = path, .expected = expected, .found = describe_node(node), .hint = hint});
  }

  void refuse_unknown(const YamlEntry& entry, const std::string& prefix,
                      const std::vector<std::string>& siblings) {
    if (problems_.is_full()) return problems_.add(entry.origin, {});
    const std::string path = prefix + entry.key;
    if (has_neutral_value(path)) {
      if (entry.value.is_null() || (!entry.value.quoted && entry.value.text == "1")) return;
      return refuse(entry.value, path, "1",
                    fmt::format("{} above 1 is not supported; ranks are data parallel", entry.key));
    }
    const std::string section =
        prefix.empty() ? "the file" : fmt::format("'{}'", prefix.substr(0, prefix.size() - 1));
    const std::string shown = quoted_for_message(entry.key);
    problems_.add(entry.origin,
                  {.field = prefix + shown.substr(1, shown.size() - 2),
                   .expected = fmt::format("a key of {} ({})", section, fmt::join(siblings, ", ")),
                   .found = "unknown key " + shown,
                   .hint = hint_for_unknown_key(entry.key, prefix, siblings)});
    misspelt_.insert(prefix + core::nearest(entry.key.substr(0, 64), siblings));
  }

  static std::optional<int64_t> plain_integer(const YamlNode& node) {
    const bool is_plain = node.kind == YamlNode::Kind::kScalar && !node.quoted;
    return is_plain ? parse_integer(node.text) : std::nullopt;
  }

  static std::string integer_hint(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kScalar || node.text.empty()) return "";
    if (node.quoted && parse_integer(node.text)) return "write it without quotes";
    const bool starts_as_number = node.text[0] >= '0' && node.text[0] <= '9';
    return starts_as_number ? "write plain decimal digits, without unit, point or exponent" : "";
  }

  // An unquoted word of another type is refused in a file; the command line knows no types.
  bool is_text(const YamlNode& node, const std::string& path, const Key& key) {
    const char* const what = key.path == PathBase::kNotAPath ? "text" : "a path";
    const bool is_override = node.origin.is_override();
    if (node.kind != YamlNode::Kind::kScalar) {
      refuse(node, path, key.choices.empty() ? what : describe_choices(key));
    } else if (!node.quoted && !is_override && key.choices.empty() && looks_typed(node.text)) {
      refuse(node, path, what, fmt::format("quote it if it is meant as text: \"{}\"", node.text));
    } else {
      return true;
    }
    return false;
  }

  std::string resolve_path(const YamlNode& node, const std::string& path, const Key& key) {
    constexpr size_t kLongestPath = 4095;
    const std::string& text = node.text;
    if (text.empty()) {
      refuse(node, path, "a path");
    } else if (text.size() > kLongestPath) {
      refuse(node, path, fmt::format("a path of at most {} bytes", kLongestPath));
    } else if (text.find_first_of(std::string("\0\n\r", 3)) != std::string::npos) {
      refuse(node, path, "a path on one line");
    } else if (text[0] == '~' || text.find('$') != std::string::npos) {
      refuse(node, path, "a path", "~ and $VAR are not expanded: write the path out");
    } else {
      const bool to_file = key.path == PathBase::kConfigFile;
      const fs::path base = to_file ? base_of(node.origin) : fs::current_path();
      fs::path normal = (base / text).lexically_normal();
      if (!normal.has_filename()) normal = normal.parent_path();  // "a/" is "a"
      return normal.string();
    }
    return "?";  // keeps later checks from calling the path missing as well
  }

  // What a path is relative to that stands in the file, or in an override.
  fs::path base_of(const Origin& origin) const {
    if (!origin.is_override()) return config_folder_;
    const std::string& override_text = *origin.override_text;
    const auto& texts = first_.texts;
    const bool of_file = std::find(texts.begin(), texts.end(), override_text) != texts.end();
    return of_file ? first_.folder : fs::current_path();
  }

  fs::path config_folder_;
  const FileOverrides& first_;
  Problems& problems_;
  std::map<std::string, Origin> origins_;
  std::set<std::string> refused_, misspelt_;
};

class LocatedProblems : public ProblemSink {
 public:
  LocatedProblems(const Loader& loader, Problems& problems)
      : loader_(loader), problems_(problems) {}
  void add(const std::string& key, const std::string& expected, const std::string& found,
           const std::string& hint) override {
    if (was_refused(key) || loader_.was_misspelt(key)) return;
    problems_.add(loader_.origin_of(key),
                  {.field = key, .expected = expected, .found = found, .hint = hint});
  }

  bool was_refused(const std::string& key) const override { return loader_.was_refused(key); }

 private:
  const Loader& loader_;
  Problems& problems_;
};

// The node that `dotted` names, made if missing; null if it leads through a scalar or past the end
// of a list.
YamlNode* find_or_make(YamlNode& root, const std::string& dotted, const Origin& origin) {
  constexpr auto kMaxNames = 32;  // as deep as a file may be
  if (std::count(dotted.begin(), dotted.end(), '.') >= kMaxNames) return nullptr;
  YamlNode* node = &root;
  for (size_t begin = 0; begin <= dotted.size();) {
    const size_t end = std::min(dotted.find('.', begin), dotted.size());
    const std::string name = dotted.substr(begin, end - begin);
    begin = end + 1;
    if (name.empty()) return nullptr;
    if (node->kind == YamlNode::Kind::kList) {
      const std::optional<int64_t> index = parse_integer(name);
      if (!index || *index < 0 || static_cast<size_t>(*index) >= node->items.size()) return nullptr;
      node = &node->items[static_cast<size_t>(*index)];
      continue;
    }
    if (node->kind == YamlNode::Kind::kScalar) return nullptr;
    if (node->is_null()) *node = {.kind = YamlNode::Kind::kMap, .origin = origin};
    if (node->find(name) == nullptr)
      node->entries.push_back({name, origin, YamlNode{.origin = origin}});
    node = node->find(name);
  }
  return node;
}

void apply_override(YamlNode& root, const std::string& text, Problems& problems) {
  const Origin origin{0, 0, std::make_shared<const std::string>(text)};
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    return problems.add(origin, {.expected = "key=value", .found = quoted_for_message(text)});
  const std::string key = text.substr(0, equals);
  YamlNode value = parse_override_value(text.substr(equals + 1), origin, problems);
  if (value.is_null()) value.origin = origin;
  YamlNode* target = find_or_make(root, key, origin);
  if (target == nullptr)
    return problems.add(origin, {.field = key.substr(0, 200),
                                 .expected = "a key, or a stage of the list by its index from 0",
                                 .found = "a path that leads nowhere"});
  *target = std::move(value);
}

}  // namespace

Config parse_config(std::string_view text, const fs::path& name,
                    const std::vector<std::string>& overrides, const FileOverrides& first) {
  Problems problems(name.string());
  YamlNode root = parse_yaml(text, problems);
  if (root.kind != YamlNode::Kind::kMap) {
    problems.add(root.origin.line > 0 ? root.origin : Origin{1, 1},
                 {.expected = "a mapping of sections",
                  .found = root.is_null() ? "an empty file" : describe_node(root)});
    problems.fail();
  }
  for (const auto* texts : {&first.texts, &overrides})
    for (const std::string& text_of_override : *texts)
      apply_override(root, text_of_override, problems);

  Loader loader(fs::absolute(name).parent_path(), first, problems);
  Config config;
  loader.read(config, nullptr, root, "");
  const std::set<std::string> given = loader.given_keys();
  if (!given.contains("general.output_dir"))
    config.general.output_dir = (fs::current_path() / config.general.output_dir).string();
  resolve_dependent_defaults(config, given);
  LocatedProblems located(loader, problems);
  check_config(config, located);
  problems.fail_if_any();
  return config;
}

Config load_config(const fs::path& path, const std::vector<std::string>& overrides,
                   const FileOverrides& first) {
  std::string text;
  try {
    text = core::read_text(path, uint64_t{1} << 20);
  } catch (const core::Error& e) {
    if (e.code() != core::ExitCode::kBadData) throw;
    throw core::Error(core::ExitCode::kBadConfig, e.what());
  }
  return parse_config(text, path, overrides, first);
}

}  // namespace trainer
