#include "trainer/files/lenient_json.h"

#include <limits>

namespace trainer {

using nlohmann::json;

const json& value_at(const json& from, std::initializer_list<const char*> keys) {
  static const json nothing;
  const json* at = &from;
  for (const char* key : keys) {
    if (!at->is_object()) return nothing;
    const auto found = at->find(key);
    if (found == at->end()) return nothing;
    at = &*found;
  }
  return *at;
}

double number_at(const json& from, std::initializer_list<const char*> keys) {
  const json& value = value_at(from, keys);
  return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
}

std::string text_at(const json& from, std::initializer_list<const char*> keys) {
  constexpr size_t kLongest = 200;
  const json& value = value_at(from, keys);
  return value.is_string() ? value.get_ref<const std::string&>().substr(0, kLongest) : "";
}

}  // namespace trainer
