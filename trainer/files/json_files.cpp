#include "trainer/files/json_files.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace trainer {
namespace {

using nlohmann::json;

// Far above what is ever written.
constexpr uint64_t kMaxObjectBytes = uint64_t{16} << 20;

// What `parse` gives, if that is an object; an empty one if not, and for bad data.
template <class Parse>
json object_of(Parse&& parse) {
  try {
    json value = parse();
    if (value.is_object()) return value;
  } catch (const core::Error& error) {
    if (error.code() != core::ExitCode::kBadData) throw;
  }
  return json::object();
}

}  // namespace

json parse_object(const std::string& text) {
  if (!json::accept(text)) return json::object();  // or each of many bad lines costs an exception
  return object_of([&] { return core::parse_json("", text); });
}

json read_object(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return json::object();
  return object_of([&] { return core::read_json(path, kMaxObjectBytes); });
}

json read_result(const std::filesystem::path& folder, int64_t step) {
  json result = read_object(folder / "result.json");
  if (result.value("steps", json()) != step) return nullptr;
  return result;
}

}  // namespace trainer
