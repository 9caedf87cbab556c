// A GGUF file. Oracles: of what is accepted, the tensors tile the data section, added up in 128
// bits; a configuration made from the metadata is one that config.json's reader takes or refuses;
// the tokenizer made from it likewise.
#include "model/gguf.h"

#include <algorithm>
#include <vector>

#include "data/tokenizer.h"
#include "model/gguf_config.h"
#include "model/gguf_tokenizer.h"
#include "model/hf_config.h"
#include "tests/fuzz/fuzz.h"

namespace {

using Wide = unsigned __int128;

unsigned bytes_of_block(const std::string& type) {
  if (type == "F32") return 4;
  if (type == "F16" || type == "BF16") return 2;
  return type == "Q8_0" ? 34 : type == "Q4_0" ? 18 : 20;
}

void check_slowly(const model::GgufHeader& gguf, std::span<const std::byte> file) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, tensor] : gguf.tensors) {
    Wide elements = 1;
    for (const int64_t extent : tensor.shape) elements *= static_cast<uint64_t>(extent);
    const std::string type = tensor.block->name;
    const unsigned per_block = type.starts_with("Q") ? 32 : 1;
    fuzz::require(elements % per_block == 0, "whole blocks");
    fuzz::require(elements / per_block * bytes_of_block(type) == tensor.bytes.size(),
                  "a tensor has the bytes of its shape");
    const auto begin = static_cast<uint64_t>(tensor.bytes.data() - file.data());
    ranges.emplace_back(begin, begin + tensor.bytes.size());
  }
  std::sort(ranges.begin(), ranges.end());
  uint64_t position = gguf.data_offset;
  for (const auto& [begin, end] : ranges) {
    fuzz::require(begin == position, "no hole and no overlap");
    const uint64_t data = end - gguf.data_offset;
    position = gguf.data_offset + (data + gguf.alignment - 1) / gguf.alignment * gguf.alignment;
    fuzz::require(end <= file.size(), "inside the file");
  }
  fuzz::require(position >= file.size() || ranges.empty(), "the tensors end with the file");
}

void decode(const model::GgufTensor& tensor) {
  std::vector<float> values(tensor.elements());
  model::decode_gguf_blocks(*tensor.block, tensor.bytes, values);
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  model::GgufHeader gguf;
  if (!fuzz::accepts([&] { gguf = model::parse_gguf("x.gguf", file); })) return 0;
  check_slowly(gguf, file);
  for (const auto& entry : gguf.tensors) decode(entry.second);
  int64_t vocab_size = 0;
  fuzz::accepts([&] {
    std::vector<std::string> notes;
    const std::string text = model::gguf_config_json(gguf, notes);
    vocab_size = model::parse_hf_config("x.gguf", text).vocab_size;
  });
  fuzz::accepts([&] {
    const model::GgufTokenizer tokenizer = model::gguf_tokenizer(gguf.metadata, vocab_size);
    if (!tokenizer.refusal.empty()) return;
    data::Tokenizer::parse("x.gguf", tokenizer.tokenizer_json).encode("ab 12", true);
  });
  return 0;
}
