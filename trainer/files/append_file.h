// Files that grow at their end.
#pragma once

#include <filesystem>
#include <string_view>

namespace trainer {

// Makes the file if it is not there. Throws like core::fail_errno.
int open_to_append(const std::filesystem::path& path);

// Writes all of `bytes`, or throws; part of them may be in the file then.
void write_all(int fd, const std::filesystem::path& path, std::string_view bytes);

}  // namespace trainer
