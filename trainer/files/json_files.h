// Small files of JSON that a run or a sweep writes for itself, and that may be missing or damaged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace trainer {

// The object in the text; an empty one when there is none, or one that core::parse_json refuses:
// what it gives may be copied and dumped, which recurse.
nlohmann::json parse_object(const std::string& text);

// The object in the file; an empty one when there is no such file, no object in it as above, or
// more than 16 MiB. Throws when the file cannot be read.
nlohmann::json read_object(const std::filesystem::path& path);

// result.json of the run in `folder`, which ended at `step`; null when there is none.
nlohmann::json read_result(const std::filesystem::path& folder, int64_t step);

}  // namespace trainer
