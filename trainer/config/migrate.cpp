#include "trainer/config/migrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "trainer/config/migrate_draft.h"

namespace trainer {
namespace {

using Kind = YamlNode::Kind;

// The indices of `key` in the place of the "*" of `ours`.
std::string with_index_of(std::string_view ours, const std::string& key) {
  std::string result(ours);
  const size_t star = result.find('*');
  if (star == std::string::npos) return result;
  const size_t end = key.find('.', star);
  return result.replace(star, 1, key.substr(star, end - star));
}

bool is_one_of(const std::string& word, std::string_view choices) {
  for (size_t begin = 0; begin <= choices.size();) {
    const size_t end = std::min(choices.find('|', begin), choices.size());
    if (word == choices.substr(begin, end - begin)) return true;
    begin = end + 1;
  }
  return false;
}

void copy_value(MigrationDraft& draft, const ForeignKey& key, const MigrationRule& rule) {
  const YamlNode& value = key.value;
  const std::string ours = with_index_of(rule.ours, key.name);
  if (value.kind == Kind::kMap) draft.refuse(key, "a value or a list of values");
  if (draft.find_ours(ours) != nullptr)
    return draft.note_change(
        fmt::format("{} {}: {} has another value", key.name, shown_value(value), ours));
  draft.set(ours, yaml_of(value, rule.carry == Carry::kText), key.name);
  if (ours != key.name)
    draft.note_change(fmt::format("{} -> {}: {}", key.name, ours, *draft.find_ours(ours)));
}

void drop_unless_it_matters(MigrationDraft& draft, const ForeignKey& key,
                            const MigrationRule& rule) {
  const std::string line = fmt::format("{} {}: {}", key.name, shown_value(key.value), rule.why);
  const bool is_empty = key.value.kind == Kind::kList && key.value.items.empty();
  const bool is_neutral = is_empty || (key.value.kind == Kind::kScalar &&
                                       is_one_of(draft.word(key.name, ""), rule.neutral));
  if (is_neutral)
    draft.note_dropped(line);
  else
    draft.note_lost(line);
}

// One line for all keys that one rule drops.
void drop_together(MigrationDraft& draft, const std::vector<const ForeignKey*>& keys,
                   const MigrationRule& rule) {
  std::vector<std::string> names;
  for (const ForeignKey* key : keys) names.push_back(key->name.substr(key->name.rfind('.') + 1));
  draft.note_dropped(
      keys.size() == 1
          ? fmt::format("{} {}: {}", keys[0]->name, shown_value(keys[0]->value), rule.why)
          : fmt::format("{} ({}): {}", rule.theirs, fmt::join(names, ", "), rule.why));
}

void apply(MigrationDraft& draft, const MigrationRule& rule,
           const std::vector<const ForeignKey*>& keys) {
  if (keys.empty()) return;
  if (rule.carry == Carry::kMeaningless) return drop_together(draft, keys, rule);
  for (const ForeignKey* key : keys) {
    if (rule.carry == Carry::kCopy || rule.carry == Carry::kText) copy_value(draft, *key, rule);
    if (rule.carry == Carry::kNeutral) drop_unless_it_matters(draft, *key, rule);
  }
}

void apply_defaults(MigrationDraft& draft) {
  for (const ForeignDefault& rule : foreign_defaults())
    if (rule.dialect == draft.dialect() &&
        draft.set(std::string(rule.ours), std::string(rule.value)))
      draft.note_change(fmt::format("{} left out -> {}: {}, the default there", rule.theirs,
                                    rule.ours, rule.value));
}

void note_relative_paths(MigrationDraft& draft) {
  for (const char* ours : {"model.init_from", "data_stages.0.data.dataset.dataset_folder"}) {
    const std::string* path = draft.find_ours(ours);
    if (path == nullptr || path->empty()) continue;
    const size_t first = path->find_first_not_of("[\"");
    if (first == std::string::npos || (*path)[first] != '/')
      draft.note_change(
          fmt::format("{} is relative: it counts from the folder of this file now, "
                      "and a name of a hub is not downloaded",
                      ours));
  }
}

}  // namespace

Migration migrate_configs(const std::vector<MigrationFile>& files,
                          const std::vector<std::string>& overrides) {
  MigrationDraft draft(files, overrides);
  std::map<const MigrationRule*, std::vector<const ForeignKey*>> keys;
  for (const ForeignKey& key : draft.keys()) {
    const MigrationRule* rule = find_migration_rule(key.name);
    if (key.value.is_null()) continue;  // left out
    if (rule == nullptr)
      draft.note_lost(fmt::format("{} {}: not a key that is known here",
                                  quoted_for_message(key.name), shown_value(key.value)));
    else
      keys[rule].push_back(&key);
  }
  for (const MigrationRule& rule : migration_rules()) apply(draft, rule, keys[&rule]);
  apply_defaults(draft);
  migrate_model(draft);
  migrate_conversion(draft);
  migrate_batches(draft);
  migrate_schedule(draft);
  migrate_intervals(draft);
  note_relative_paths(draft);
  return draft.finish();
}

}  // namespace trainer
