// How GGUF stores the elements of a tensor: plain, or in blocks of 32 that share a scale.
//   Q8_0  d: f16, 32 x int8                 y[j] = d q[j]
//   Q4_0  d: f16, 16 x u8                   y[j] = d (low nibble[j] - 8), y[j + 16] from the high
//   Q4_1  d: f16, m: f16, 16 x u8           y[j] = d low nibble[j] + m,   y[j + 16] from the high
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace model {

// A number as it lies in the file: little-endian, anywhere.
template <class T>
T read_number(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

struct GgufBlock {
  uint32_t id;        // in the file
  const char* name;   // "Q4_1"
  uint64_t elements;  // of a block; a row holds whole blocks
  uint64_t bytes;     // of a block
  bool quantized() const { return elements > 1; }
};

// The block format of a type; null for those that are not read.
const GgufBlock* find_gguf_block(uint32_t type);
// "Q6_K"; "type 77" for a number without a name.
std::string gguf_type_name(uint32_t type);
// "F32, F16, ...": the types that are read.
std::string gguf_block_names();

// Blocks -> floats. Requires: `stored` are whole blocks, `values` has their elements.
void decode_gguf_blocks(const GgufBlock& block, std::span<const std::byte> stored,
                        std::span<float> values);

}  // namespace model
