// A configuration as text: resolved YAML, documented defaults, and what differs between two.
#include <fmt/format.h>

#include <map>

#include "trainer/config/config.h"
#include "trainer/config/scalars.h"

namespace trainer {
namespace {

std::string value_text(int64_t value) { return std::to_string(value); }
std::string value_text(double value) { return format_number(value); }
std::string value_text(const std::string& value) {
  return value.empty() ? "null" : yaml_text(value);
}
std::string value_text(const ThreadCount& value) {
  return value.count == 0 ? "auto" : std::to_string(value.count);
}
template <class T>
std::string value_text(const std::vector<T>& list) {
  if (list.empty()) return "null";
  std::vector<std::string> items;
  for (const T& item : list) items.push_back(value_text(item));
  return fmt::format("[{}]", fmt::join(items, ", "));
}

class Writer {
 public:
  explicit Writer(bool with_help) : with_help_(with_help) {}

  template <Section S>
  void write_keys(const S& section, size_t indent) {
    S::fields(section, [&](const auto& value, const Key& key) { write(value, key, indent); });
  }

  std::string take() { return std::move(text_); }

 private:
  template <Section S>
  void write(const S& section, const Key& key, size_t indent) {
    line(indent, fmt::format("{}:", key.name), key);
    write_keys(section, indent + 2);
  }

  template <Section S>
  void write(const std::optional<S>& section, const Key& key, size_t indent) {
    if (section) return write(*section, key, indent);
    line(indent, fmt::format("{}: null", key.name), key);
  }

  template <Section S>
  void write(const std::vector<S>& list, const Key& key, size_t indent) {
    line(indent, fmt::format("{}:", key.name), key);
    for (const S& item : list) {
      const size_t start = text_.size();
      write_keys(item, indent + 4);
      text_[start + indent + 2] = '-';
    }
  }

  void write(const NamedPaths& paths, const Key& key, size_t indent) {
    line(indent, fmt::format("{}:{}", key.name, paths.empty() ? " {}" : ""), key);
    for (const auto& [name, path] : paths)
      text_ += fmt::format("{:{}}{}: {}\n", "", indent + 2, yaml_text(name), yaml_text(path));
  }

  template <class T>
  void write(const T& value, const Key& key, size_t indent) {
    const bool show = !with_help_ || key.has_default;
    line(indent, fmt::format("{}: {}", key.name, show ? value_text(value) : "null"), key);
  }

  void line(size_t indent, const std::string& content, const Key& key) {
    constexpr size_t kHelpColumn = 40;
    std::string text = std::string(indent, ' ') + content;
    if (with_help_) text = fmt::format("{:<{}}  # {}", text, kHelpColumn, key.help);
    text_ += text + "\n";
  }

  bool with_help_;
  std::string text_;
};

struct Leaf {
  std::string value;     // as shown
  std::string identity;  // what must be equal: of a path, its last name
  Effect effect = Effect::kFree;
};

std::string file_name(const std::string& path) { return fs::path(path).filename().string(); }

// Every key with its value, by dotted name.
class Leaves {
 public:
  explicit Leaves(const Config& config) { add_keys(config, ""); }
  const std::map<std::string, Leaf>& map() const { return leaves_; }

 private:
  template <Section S>
  void add_keys(const S& section, const std::string& prefix) {
    S::fields(section,
              [&](const auto& value, const Key& key) { add(value, key, prefix + key.name); });
  }
  template <Section S>
  void add(const S& section, const Key&, const std::string& name) {
    add_keys(section, name + ".");
  }
  template <Section S>
  void add(const std::optional<S>& section, const Key&, const std::string& name) {
    if (section) add_keys(*section, name + ".");
  }
  template <Section S>
  void add(const std::vector<S>& list, const Key&, const std::string& name) {
    for (size_t i = 0; i < list.size(); ++i) add_keys(list[i], fmt::format("{}.{}.", name, i));
  }
  void add(const NamedPaths& paths, const Key& key, const std::string& name) {
    for (const auto& [set, path] : paths) add(path, key, name + "." + set);
  }
  void add(const std::vector<std::string>& paths, const Key& key, const std::string& name) {
    std::vector<std::string> names;
    for (const std::string& path : paths) names.push_back(file_name(path));
    leaves_[name] = {value_text(paths), value_text(names), key.effect};
  }
  void add(const std::string& text, const Key& key, const std::string& name) {
    const bool is_path = key.path != PathBase::kNotAPath;
    leaves_[name] = {value_text(text), is_path ? file_name(text) : text, key.effect};
  }
  template <class T>
  void add(const T& value, const Key& key, const std::string& name) {
    leaves_[name] = {value_text(value), value_text(value), key.effect};
  }

  std::map<std::string, Leaf> leaves_;
};

// Changes of the trajectory, or else those that are only worth telling.
std::vector<std::string> changes(const Config& saved, const Config& now, bool of_trajectory) {
  const Leaves old_leaves(saved), new_leaves(now);
  std::map<std::string, Leaf> all = new_leaves.map();
  all.insert(old_leaves.map().begin(), old_leaves.map().end());
  std::vector<std::string> result;
  for (const auto& [key, any] : all) {
    const auto before = old_leaves.map().find(key), after = new_leaves.map().find(key);
    const bool was = before != old_leaves.map().end(), is = after != new_leaves.map().end();
    const bool same_value = was && is && before->second.value == after->second.value;
    const bool same_identity = was && is && before->second.identity == after->second.identity;
    const bool alters = any.effect == Effect::kTrajectory && !same_identity;
    const bool shown = of_trajectory ? alters : !alters && any.effect != Effect::kFree;
    if (!same_value && shown)
      result.push_back(fmt::format("{}: {} -> {}", key, was ? before->second.value : "(absent)",
                                   is ? after->second.value : "(absent)"));
  }
  return result;
}

}  // namespace

std::string dump_resolved(const Config& config) {
  Writer writer(/*with_help=*/false);
  writer.write_keys(config, 0);
  return writer.take();
}

std::string defaults_yaml() {
  Config config;
  config.mla.emplace();
  config.data_stages.emplace_back();
  Writer writer(/*with_help=*/true);
  writer.write_keys(config, 0);
  return writer.take();
}

std::vector<std::string> incompatible_changes(const Config& saved, const Config& now) {
  return changes(saved, now, /*of_trajectory=*/true);
}

std::vector<std::string> reported_changes(const Config& saved, const Config& now) {
  return changes(saved, now, /*of_trajectory=*/false);
}

std::string identity_of(const Config& config) {
  std::string text;
  const Leaves leaves(config);
  for (const auto& [key, leaf] : leaves.map())
    if (leaf.effect != Effect::kFree) text += fmt::format("{}: {}\n", key, leaf.identity);
  return text;
}

}  // namespace trainer
