#include "trainer/files/json_files.h"

#include <nlohmann/json.hpp>

#include "core/file.h"

namespace trainer {

using nlohmann::json;

json read_object(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return json::object();
  json value = json::parse(core::read_text(path), nullptr, /*allow_exceptions=*/false);
  return value.is_object() ? value : json::object();
}

json read_result(const std::filesystem::path& folder, int64_t step) {
  json result = read_object(folder / "result.json");
  return result.value("steps", json()) == step ? result : json();
}

}  // namespace trainer
