#include "core/json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/file.h"

namespace core {
namespace {

constexpr int kMaxDepth = 64;
// A value takes at least two bytes of text and 16 of memory: so that memory stays bounded.
constexpr size_t kMaxValues = size_t{1} << 24;

}  // namespace

nlohmann::json parse_json(const std::string& path, const std::string& text) {
  using Json = nlohmann::json;
  std::vector<std::set<std::string>> keys;  // of every object that is open
  std::string problem;
  size_t values = 0;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxDepth && problem.empty()) problem = "nesting deeper than 64";
    if (++values > kMaxValues && problem.empty())
      problem = "more than " + std::to_string(kMaxValues) + " values";
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && problem.empty() &&
        !keys.back().insert(value.get<std::string>()).second)
      problem = "duplicate key \"" + value.get<std::string>() + "\"";
    if (!problem.empty())
      throw Error(ExitCode::kBadData, {.path = path, .field = "JSON", .found = problem});
    return true;
  };
  // The parser takes NUL for the end of the text and would not look at what follows.
  if (const size_t nul = text.find('\0'); nul != std::string::npos)
    fail(ExitCode::kBadData, {.path = path,
                              .place = "byte " + std::to_string(nul),
                              .field = "JSON",
                              .expected = "text",
                              .found = "a NUL byte"});
  try {
    return Json::parse(text, watch);
  } catch (const Json::parse_error& e) {
    fail(ExitCode::kBadData, {.path = path,
                              .place = "byte " + std::to_string(e.byte),
                              .field = "JSON",
                              .expected = "valid JSON",
                              .found = e.what()});
  } catch (const Json::exception& e) {
    fail(ExitCode::kBadData, {.path = path, .field = "JSON", .found = e.what()});
  }
}

nlohmann::json read_json(const std::string& path, uint64_t max_bytes) {
  return parse_json(path, read_text(path, max_bytes));
}

}  // namespace core
