// A migration under way: what the files say, what has become of it, and how it is written.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/config/migrate.h"
#include "trainer/config/migrate_rules.h"
#include "trainer/config/yaml.h"

namespace trainer {

// A key of another program: its dotted name without the section that only wraps it.
struct ForeignKey {
  std::string name;
  std::string place;  // file:line:column
  YamlNode value;
};

class MigrationDraft {
 public:
  // Reads the files and the overrides. Throws kBadConfig.
  MigrationDraft(const std::vector<MigrationFile>& files,
                 const std::vector<std::string>& overrides);

  Dialect dialect() const { return dialect_; }
  const std::vector<ForeignKey>& keys() const { return keys_; }

  // The key; null if it was left out, or is null.
  const ForeignKey* find(std::string_view theirs) const;
  // Its value as text, lower-case; `otherwise` if it was left out. Throws kBadConfig for a list or
  // mapping.
  std::string word(std::string_view theirs, std::string_view otherwise) const;
  bool is_true(std::string_view theirs) const { return word(theirs, "false") == "true"; }
  // In [least, 10^9]. Throws kBadConfig for anything else.
  std::optional<int64_t> integer(std::string_view theirs, int64_t least) const;
  std::optional<double> number(std::string_view theirs) const;
  [[noreturn]] void refuse(const ForeignKey& key, const std::string& expected,
                           const std::string& hint = "") const;

  // `yaml` becomes the value of our key, unless an override has it. The first of two wins; false
  // for the second. `theirs`: the key that decides it, for errors.
  bool set(const std::string& ours, const std::string& yaml, std::string_view theirs = "");
  const std::string* find_ours(const std::string& ours) const;

  void note_change(const std::string& line) { result_.changed.push_back(line); }
  void note_dropped(const std::string& line) { result_.dropped.push_back(line); }
  void note_lost(const std::string& line) { result_.lost.push_back(line); }

  // The lists and the configuration, checked. Throws kBadConfig; a wrong value is told with the
  // place it came from.
  Migration finish();

 private:
  void read_file(const MigrationFile& file);
  void flatten(const YamlNode& node, const std::string& prefix, const std::string& file);
  void read_override(const std::string& text);
  std::string header() const;
  std::string with_places(const std::string& errors) const;

  Dialect dialect_ = Dialect::kHuggingFace;
  std::string file_names_;
  std::vector<ForeignKey> keys_;
  std::vector<std::pair<std::string, std::string>> values_;  // ours, YAML
  std::map<std::string, std::string> places_;                // ours -> where it came from
  Migration result_;
};

// A value or a list of them as YAML on one line. `is_text`: of a name or path.
std::string yaml_of(const YamlNode& value, bool is_text);
// The same, shortened for a message.
std::string shown_value(const YamlNode& value);

// What several keys make together; each adds to the lists what it does.
void migrate_model(MigrationDraft& draft);
void migrate_conversion(MigrationDraft& draft);
void migrate_batches(MigrationDraft& draft);
void migrate_schedule(MigrationDraft& draft);
void migrate_intervals(MigrationDraft& draft);

}  // namespace trainer
