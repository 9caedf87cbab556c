#include "trainer/files/companion.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"

namespace trainer {

namespace fs = std::filesystem;

uint64_t Companion::bytes() const {
  if (!on_disk()) return text_.size();
  std::error_code error;
  const uint64_t bytes = fs::file_size(file_, error);
  if (error) core::fail_errno("stat", file_, error.value());
  return bytes;
}

std::string Companion::text() const { return on_disk() ? core::read_text(file_) : text_; }

std::string Companion::hash() const {
  return on_disk() ? core::hash_file_hex(file_) : core::hash_hex(text_);
}

void Companion::copy_into(const fs::path& folder) const {
  if (on_disk())
    core::copy_file_atomically(file_, folder / name_);
  else
    core::write_file_atomically(folder / name_, text_);
}

const Companion* find_companion(const std::vector<Companion>& companions, std::string_view name) {
  const auto found = std::ranges::find(companions, name, &Companion::name);
  return found == companions.end() ? nullptr : &*found;
}

}  // namespace trainer
