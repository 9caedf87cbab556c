#include "model/gguf_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "model/half.h"

namespace model {
namespace {

enum Id : uint32_t { kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ8_0 = 8, kBF16 = 30 };
constexpr uint64_t kBlock = 32;  // elements of a quantised block

constexpr std::array kBlocks = {
    GgufBlock{kF32, "F32", 1, 4},         GgufBlock{kF16, "F16", 1, 2},
    GgufBlock{kBF16, "BF16", 1, 2},       GgufBlock{kQ8_0, "Q8_0", kBlock, 34},
    GgufBlock{kQ4_0, "Q4_0", kBlock, 18}, GgufBlock{kQ4_1, "Q4_1", kBlock, 20},
};

constexpr std::pair<uint32_t, const char*> kOtherTypes[] = {
    {4, "Q4_2"},      {5, "Q4_3"},      {6, "Q5_0"},      {7, "Q5_1"},     {9, "Q8_1"},
    {10, "Q2_K"},     {11, "Q3_K"},     {12, "Q4_K"},     {13, "Q5_K"},    {14, "Q6_K"},
    {15, "Q8_K"},     {16, "IQ2_XXS"},  {17, "IQ2_XS"},   {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {20, "IQ4_NL"},   {21, "IQ3_S"},    {22, "IQ2_S"},    {23, "IQ4_XS"},  {24, "I8"},
    {25, "I16"},      {26, "I32"},      {27, "I64"},      {28, "F64"},     {29, "IQ1_M"},
    {31, "Q4_0_4_4"}, {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {34, "TQ1_0"},   {35, "TQ2_0"},
    {39, "MXFP4"},
};

float read_half(const std::byte* from) { return widen_half(read_number<uint16_t>(from)); }

void decode_q8_0(const std::byte* block, float* y) {
  const float d = read_half(block);
  for (size_t j = 0; j < kBlock; ++j)
    y[j] = d * static_cast<float>(std::to_integer<int8_t>(block[2 + j]));
}

void decode_q4(const std::byte* nibbles, float d, float offset, float m, float* y) {
  for (size_t j = 0; j < kBlock / 2; ++j) {
    const auto byte = std::to_integer<unsigned>(nibbles[j]);
    y[j] = d * (static_cast<float>(byte & 15) - offset) + m;
    y[j + kBlock / 2] = d * (static_cast<float>(byte >> 4) - offset) + m;
  }
}

void decode(uint32_t id, const std::byte* block, float* y) {
  switch (id) {
    case kF32:
      *y = read_number<float>(block);
      return;
    case kF16:
      *y = read_half(block);
      return;
    case kBF16:
      *y = std::bit_cast<float>(uint32_t{read_number<uint16_t>(block)} << 16);
      return;
    case kQ8_0:
      decode_q8_0(block, y);
      return;
    case kQ4_0:
      decode_q4(block + 2, read_half(block), 8, 0, y);
      return;
    case kQ4_1:
      decode_q4(block + 4, read_half(block), 0, read_half(block + 2), y);
      return;
  }
}

}  // namespace

const GgufBlock* find_gguf_block(uint32_t type) {
  const auto found = std::ranges::find(kBlocks, type, &GgufBlock::id);
  return found == kBlocks.end() ? nullptr : &*found;
}

std::string gguf_type_name(uint32_t type) {
  if (const GgufBlock* block = find_gguf_block(type)) return block->name;
  for (const auto& [id, name] : kOtherTypes)
    if (id == type) return name;
  return "type " + std::to_string(type);
}

std::string gguf_block_names() {
  std::string names;
  for (const GgufBlock& block : kBlocks) names.append(names.empty() ? "" : ", ").append(block.name);
  return names;
}

void decode_gguf_blocks(const GgufBlock& block, std::span<const std::byte> stored,
                        std::span<float> values) {
  const size_t blocks = stored.size() / block.bytes;
  for (size_t b = 0; b < blocks; ++b)
    decode(block.id, stored.data() + b * block.bytes, values.data() + b * block.elements);
}

}  // namespace model
