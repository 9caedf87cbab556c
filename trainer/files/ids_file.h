// Token ids of a safetensors file: the tensor `input_ids` [B, S].
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "autograd/core/tensor.h"

namespace trainer {

// input_ids [B, S] as i32. Throws kBadData naming file, row and column for an id outside [0,
// vocab_size), kBadData for another type (I32 and I64 are read), rank or an empty tensor.
ag::Tensor read_ids(const std::filesystem::path& path, int64_t vocab_size);

// The same from the bytes of the file; `path` names it in errors.
ag::Tensor parse_ids(const std::string& path, std::span<const std::byte> file, int64_t vocab_size);

}  // namespace trainer
