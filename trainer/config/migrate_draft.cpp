#include "trainer/config/migrate_draft.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "trainer/config/config.h"
#include "trainer/config/scalars.h"
#include "trainer/config/tree.h"

namespace trainer {
namespace {

using Kind = YamlNode::Kind;

// Of our configuration, in its order.
std::vector<std::string> section_names() {
  std::vector<std::string> names;
  const Config config;
  Config::fields(config, [&](const auto&, const Key& key) { names.emplace_back(key.name); });
  return names;
}

// Sections that only nanotron has among those whose files are read here.
constexpr std::array<std::string_view, 8> kNanotronSections = {
    "general",     "tokens",      "optimizer", "parallelism",
    "checkpoints", "data_stages", "tokenizer", "logging"};

// The same keys stand at the top of files of their own, or below these.
constexpr std::array<std::string_view, 4> kWrappers = {"model.model_config.RoPE.",
                                                       "model.model_config.SVD.", "RoPE.", "SVD."};

std::string without_wrapper(const std::string& name) {
  for (const std::string_view wrapper : kWrappers)
    if (name.starts_with(wrapper)) return name.substr(wrapper.size());
  return name;
}

// What may stand in a list as it is.
bool is_plain_word(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '+' || c == '.';
  });
}

}  // namespace

std::string yaml_of(const YamlNode& value, bool is_text) {
  if (value.kind == Kind::kNull) return "null";
  if (value.kind == Kind::kMap) return "{...}";
  if (value.kind == Kind::kScalar)
    return is_text || value.quoted || !is_plain_word(value.text) ? yaml_text(value.text)
                                                                 : value.text;
  std::vector<std::string> items;
  for (const YamlNode& item : value.items) items.push_back(yaml_of(item, is_text));
  return fmt::format("[{}]", fmt::join(items, ", "));
}

std::string shown_value(const YamlNode& value) {
  constexpr size_t kMost = 60;
  std::string text = yaml_of(value, false);
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  return text;
}

MigrationDraft::MigrationDraft(const std::vector<MigrationFile>& files,
                               const std::vector<std::string>& overrides) {
  for (const MigrationFile& file : files) read_file(file);
  for (const std::string& text : overrides) read_override(text);
}

void MigrationDraft::read_file(const MigrationFile& file) {
  Problems problems(file.path);
  const YamlNode root = parse_yaml(file.text, problems);
  problems.fail_if_any();
  const auto refuse = [&](const std::string& expected, const std::string& found) {
    core::fail(core::ExitCode::kBadConfig,
               {.path = file.path, .expected = expected, .found = found});
  };
  if (root.kind != Kind::kMap) refuse("a mapping of keys", "none");
  const auto has = [&](std::string_view key) { return root.find(key) != nullptr; };
  const YamlNode* tokens = root.find("tokens");
  if (has("mla") || (tokens != nullptr && tokens->find("global_batch_size") != nullptr))
    refuse("a configuration of another program", "one of ours");
  if (std::any_of(kNanotronSections.begin(), kNanotronSections.end(), has))
    dialect_ = Dialect::kNanotron;
  flatten(root, "", file.path);
  file_names_ += (file_names_.empty() ? "" : ", ") + file.path.filename().string();
}

void MigrationDraft::flatten(const YamlNode& node, const std::string& prefix,
                             const std::string& file) {
  const auto descend = [&](const std::string& name, const YamlNode& value, const Origin& origin) {
    const bool is_list_of_maps =
        value.kind == Kind::kList && !value.items.empty() && value.items[0].kind == Kind::kMap;
    if (value.kind == Kind::kMap || is_list_of_maps) return flatten(value, name + ".", file);
    const std::string plain = without_wrapper(name);
    const std::string place = fmt::format("{}:{}:{}", file, origin.line, origin.column);
    for (const ForeignKey& other : keys_)
      if (other.name == plain)
        core::fail(core::ExitCode::kBadConfig, {.path = place,
                                                .field = plain,
                                                .expected = "each key once in all files",
                                                .found = "it again",
                                                .hint = "the first is at " + other.place});
    keys_.push_back({plain, place, value});
  };
  for (const YamlEntry& entry : node.entries)
    descend(prefix + entry.key, entry.value, entry.origin);
  for (size_t i = 0; i < node.items.size(); ++i)
    descend(prefix + std::to_string(i), node.items[i], node.items[i].origin);
}

void MigrationDraft::read_override(const std::string& text) {
  const size_t equals = text.find('=');
  const auto section = text.substr(0, std::min(text.find('.'), text.size()));
  const auto sections = section_names();
  const bool is_key = equals != std::string::npos && text.find('\n') == std::string::npos &&
                      section.size() < equals &&
                      std::find(sections.begin(), sections.end(), section) != sections.end();
  if (!is_key)
    core::fail(core::ExitCode::kUsage, {.path = "mha2mla config",
                                        .field = "--migrate",
                                        .expected = "files, and key=value with keys of ours",
                                        .found = quoted_for_message(text)});
  set(text.substr(0, equals), text.substr(equals + 1));
  places_[text.substr(0, equals)] = "override " + quoted_for_message(text);
  note_change("given: " + text);
}

const ForeignKey* MigrationDraft::find(std::string_view theirs) const {
  for (const ForeignKey& key : keys_)
    if (key.name == theirs) return key.value.is_null() ? nullptr : &key;
  return nullptr;
}

void MigrationDraft::refuse(const ForeignKey& key, const std::string& expected,
                            const std::string& hint) const {
  core::fail(core::ExitCode::kBadConfig, {.path = key.place,
                                          .field = key.name,
                                          .expected = expected,
                                          .found = shown_value(key.value),
                                          .hint = hint});
}

std::string MigrationDraft::word(std::string_view theirs, std::string_view otherwise) const {
  const ForeignKey* key = find(theirs);
  if (key == nullptr) return std::string(otherwise);
  if (key->value.kind != Kind::kScalar) refuse(*key, "one value");
  return lower_case(key->value.text);
}

std::optional<int64_t> MigrationDraft::integer(std::string_view theirs, int64_t least) const {
  constexpr int64_t kMost = 1'000'000'000;
  const ForeignKey* key = find(theirs);
  if (key == nullptr) return std::nullopt;
  const std::optional<int64_t> value = parse_integer(key->value.text);
  if (!value || *value < least || *value > kMost)
    refuse(*key, fmt::format("integer in [{}, {}]", least, kMost));
  return value;
}

std::optional<double> MigrationDraft::number(std::string_view theirs) const {
  const ForeignKey* key = find(theirs);
  if (key == nullptr) return std::nullopt;
  const std::optional<double> value = parse_decimal(key->value.text);
  if (!value || *value < 0 || *value > 1e9) refuse(*key, "number in [0, 1e9]");
  return value;
}

bool MigrationDraft::set(const std::string& ours, const std::string& yaml,
                         std::string_view theirs) {
  if (find_ours(ours) != nullptr) return false;
  values_.emplace_back(ours, yaml);
  if (const ForeignKey* key = find(theirs)) places_[ours] = key->place;
  return true;
}

const std::string* MigrationDraft::find_ours(const std::string& ours) const {
  for (const auto& [key, yaml] : values_)
    if (key == ours) return &yaml;
  return nullptr;
}

std::string MigrationDraft::header() const {
  std::string text = fmt::format("# Made by `mha2mla config --migrate` from {}.\n", file_names_);
  const auto list = [&](const char* title, const std::vector<std::string>& lines) {
    if (lines.empty()) return;
    text += fmt::format("# {}:\n", title);
    for (const std::string& line : lines) text += fmt::format("#   {}\n", line);
  };
  list("Not carried over, and it makes a difference", result_.lost);
  list("Changed", result_.changed);
  list("Dropped, and it makes none", result_.dropped);
  return text;
}

// "name:LINE:COLUMN: error: KEY: ..." -> "PLACE: error: KEY: ..."
std::string MigrationDraft::with_places(const std::string& errors) const {
  constexpr std::string_view kError = ": error: ";
  std::string text;
  for (size_t begin = 0; begin < errors.size();) {
    const size_t end = std::min(errors.find('\n', begin), errors.size());
    const std::string line = errors.substr(begin, end - begin);
    begin = end + 1;
    const size_t error = line.find(kError);
    const size_t key = error + kError.size();
    if (!text.empty()) text += "\n";
    if (error == std::string::npos) {
      text += line;
      continue;
    }
    std::string name = line.substr(key, std::min(line.find(':', key), line.size()) - key);
    auto place = places_.find(name);
    while (place == places_.end() && name.find('.') != std::string::npos) {
      name.resize(name.rfind('.'));  // an item of a list came with the list
      place = places_.find(name);
    }
    const bool is_known = place != places_.end();
    text += fmt::format("{}{}{}", is_known ? place->second : file_names_, line.substr(error),
                        is_known ? "" : "; add key=value to the command");
  }
  return text;
}

Migration MigrationDraft::finish() {
  ConfigTree tree;
  for (const std::string& section : section_names())
    for (const auto& [ours, yaml] : values_)
      if (ours.starts_with(fmt::format("{}.", section))) tree.insert(ours, yaml);
  result_.yaml = header() + tree.yaml();
  try {
    parse_config(result_.yaml, "migrated.yaml");
  } catch (const core::Error& e) {
    throw core::Error(e.code(), with_places(e.what()));
  }
  return std::move(result_);
}

}  // namespace trainer
