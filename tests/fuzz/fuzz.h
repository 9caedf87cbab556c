// What the fuzz targets share. A target is LLVMFuzzerTestOneInput, run by libFuzzer
// (scripts/fuzz.sh) or over files by replay_main.cpp. To refuse is fine; anything else that is not
// right aborts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace fuzz {

// Why not assert: it must hold in every build.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "finding: not so: %s\n", what);
  std::abort();
}

// Whether `action` accepts its input. Requires of a refusal: a code that blames the input, and one
// printable line; any other exception is not caught.
template <class Action>
bool accepts(Action&& action, bool one_line = true) {
  try {
    action();
    return true;
  } catch (const core::Error& error) {
    const std::string_view line = error.what();
    const bool blames_input =
        error.code() == core::ExitCode::kBadData || error.code() == core::ExitCode::kBadConfig;
    if (!blames_input) std::fprintf(stderr, "%s\n", error.what());
    require(blames_input, "a refusal is kBadData or kBadConfig");
    require(line.find("error:") != std::string_view::npos, "a refusal says error:");
    require(core::find_invalid_utf8(line) == std::string_view::npos, "a refusal is UTF-8");
    for (const char c : line)
      require(static_cast<unsigned char>(c) >= 0x20 || (c == '\n' && !one_line),
              "a refusal has no control characters");
    return false;
  }
}

// Takes an input apart from its front; what is missing reads as zero.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(data, size) {}

  uint64_t number(size_t width) {
    uint64_t value = 0;
    for (size_t i = 0; i < width && !rest_.empty(); ++i, rest_ = rest_.subspan(1))
      value |= uint64_t{rest_[0]} << (8 * i);
    return value;
  }
  std::string text(size_t size) {
    const auto taken = rest_.first(size < rest_.size() ? size : rest_.size());
    rest_ = rest_.subspan(taken.size());
    return std::string(taken.begin(), taken.end());
  }
  std::string rest() { return text(rest_.size()); }
  std::span<const std::byte> bytes() const { return std::as_bytes(rest_); }

 private:
  std::span<const uint8_t> rest_;
};

inline std::string text_of(const uint8_t* data, size_t size) {
  return std::string(reinterpret_cast<const char*>(data), size);
}

}  // namespace fuzz
