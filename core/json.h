// JSON from the world: strict parsing with duplicate keys, depth and size refused, and typed access
// whose errors name file, field, expected and found.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace core {

// Throws kBadData naming `path`, the byte offset and the reason. Depth above 64, more than 2^24
// values and more than 2^20 lists and objects are refused.
nlohmann::json parse_json(const std::string& path, const std::string& text);

// parse_json(read_text(path)).
nlohmann::json read_json(const std::string& path, uint64_t max_bytes = uint64_t{1} << 28);

}  // namespace core
