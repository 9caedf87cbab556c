#include "data/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace data {
namespace {

std::string describe(const nlohmann::json& value) {
  if (value.is_structured()) return value.type_name();
  const std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  return text.size() <= kMaxQuoted ? text : text.substr(0, kMaxQuoted) + "...";
}

}  // namespace

std::string quote(const std::string& text) { return describe(nlohmann::json(text)); }

JsonNode::JsonNode(const nlohmann::json& value, std::string file, std::string path)
    : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

JsonNode JsonNode::child(const nlohmann::json& value, const std::string& suffix) const {
  return {value, file_, path_ + suffix};
}

JsonNode JsonNode::at(const std::string& key) const {
  if (!value_->is_object()) refuse("object");
  // A key may come from the file, and every node below this one copies the path.
  const std::string suffix = key.size() > kMaxQuoted ? fmt::format("[{}]", quote(key))
                             : path_.empty()         ? key
                                                     : fmt::format(".{}", key);
  const auto found = value_->find(key);
  if (found == value_->end()) child(*value_, suffix).refuse("a value", "nothing");
  return child(*found, suffix);
}

std::optional<JsonNode> JsonNode::find(const std::string& key) const {
  if (!value_->is_object()) refuse("object");
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return at(key);
}

const std::string& JsonNode::string() const {
  if (!value_->is_string()) refuse("string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  if (!value_->is_boolean()) refuse("true or false");
  return value_->get<bool>();
}

uint64_t JsonNode::integer(uint64_t max) const {
  // nlohmann::json keeps a non-negative literal as unsigned, a negative one as signed.
  if (!value_->is_number_unsigned() || value_->get<uint64_t>() > max)
    refuse(fmt::format("integer from 0 to {}", max));
  return value_->get<uint64_t>();
}

std::vector<JsonNode> JsonNode::items(size_t most) const {
  if (!value_->is_array()) refuse("array");
  if (value_->size() > most)
    refuse(fmt::format("at most {} elements", most), std::to_string(value_->size()));
  std::vector<JsonNode> nodes;
  nodes.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i)
    nodes.push_back(child((*value_)[i], fmt::format("[{}]", i)));
  return nodes;
}

bool JsonNode::boolean(const std::string& key, bool when_absent) const {
  const std::optional<JsonNode> node = find(key);
  return node ? node->boolean() : when_absent;
}

void JsonNode::allow_keys(std::initializer_list<const char*> keys) const {
  if (!value_->is_object()) refuse("object");
  for (const auto& [key, unused] : value_->items()) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    std::string known;
    for (const char* k : keys) known.append(known.empty() ? "" : ", ").append(k);
    refuse("only the keys " + known, quote(key));
  }
}

void JsonNode::refuse(const std::string& expected) const { refuse(expected, describe(*value_)); }

void JsonNode::refuse(const std::string& expected, const std::string& found) const {
  core::fail(core::ExitCode::kBadData,
             {.path = file_, .field = path_, .expected = expected, .found = found});
}

}  // namespace data
