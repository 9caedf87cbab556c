#include "core/hash.h"

#include <xxhash.h>

#include <random>

#include "core/error.h"
#include "core/file.h"

namespace core {
namespace {

std::string to_hex(XXH128_hash_t hash) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text(32, '0');
  for (int i = 0; i < 16; ++i) {
    text[static_cast<size_t>(i)] = kDigits[(hash.high64 >> (60 - 4 * i)) & 15];
    text[static_cast<size_t>(16 + i)] = kDigits[(hash.low64 >> (60 - 4 * i)) & 15];
  }
  return text;
}

}  // namespace

uint64_t table_seed() {
  static const uint64_t seed = [] {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }();
  return seed;
}

uint64_t table_hash(std::string_view key) {
  return XXH3_64bits_withSeed(key.data(), key.size(), table_seed());
}

struct Hasher::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  if (state_->xxh == nullptr || XXH3_128bits_reset(state_->xxh) != XXH_OK)
    throw Error(ExitCode::kOutOfMemory, "error: no memory for a hash state");
}
Hasher::~Hasher() = default;

void Hasher::update(const void* data, size_t size) {
  if (size > 0) XXH3_128bits_update(state_->xxh, data, size);
}

std::string Hasher::hex() const { return to_hex(XXH3_128bits_digest(state_->xxh)); }

std::string hash_hex(std::span<const std::byte> bytes) {
  return to_hex(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string hash_hex(const std::string& text) {
  return to_hex(XXH3_128bits(text.data(), text.size()));
}

std::string hash_file_hex(const std::filesystem::path& path) {
  Hasher hasher;
  for_each_piece(
      path, [&](std::span<const std::byte> piece) { hasher.update(piece.data(), piece.size()); });
  return hasher.hex();
}

}  // namespace core
