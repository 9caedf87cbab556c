// GGUF import against files that another program wrote and read (tests/data_files/gguf): every
// block type bit by bit, whole models by their logits, every truncation refused.
#include "model/gguf.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "model/gguf_import.h"
#include "model/hf_names.h"
#include "tests/support/mla_golden.h"
#include "tests/support/refusal.h"

namespace model {
namespace {

using core::ExitCode;
using test_support::expect_refusal;
using test_support::golden;
using test_support::max_relative_distance;

std::filesystem::path file(const std::string& name) {
  return test_support::fixture_path("gguf") / name;
}

std::vector<std::byte> bytes_of(const std::string& name) {
  const core::MappedFile mapped(file(name));
  return {mapped.bytes().begin(), mapped.bytes().end()};
}

TEST(Gguf, EveryBlockTypeAsTheReferenceDecodesIt) {
  const GgufModel imported = import_gguf(file("types.gguf"));
  const SafetensorsFile reference(file("types.safetensors"));
  ASSERT_EQ(imported.model.weights.size(), reference.tensors().size());
  std::set<std::string> types;
  for (const auto& [name, tensor] : parse_gguf("x", bytes_of("types.gguf")).tensors)
    types.insert(tensor.block->name);
  EXPECT_EQ(types, (std::set<std::string>{"BF16", "F16", "F32", "Q4_0", "Q4_1", "Q8_0"}));
  const auto path_of = [](const std::string& hf) { return path_of_hf_name(hf).value(); };
  for (const auto& [name, info] : reference.tensors())
    EXPECT_EQ(test_support::doubles(imported.model.weights.at(path_of(name))),
              test_support::doubles(reference.load(name)))
        << name;
  EXPECT_EQ(imported.model.weights.at("layers.0.attn.o.weight").dtype(), ag::DType::bf16);
}

class GgufModels : public testing::TestWithParam<std::string> {};

TEST_P(GgufModels, LogitsAndConfigurationAreThoseOfTheHuggingFaceFolder) {
  const GgufModel imported = import_gguf(file(GetParam() + ".gguf"));
  const Model source = import_hf(test_support::fixture_path(GetParam()));
  EXPECT_EQ(imported.model.spec, source.spec);
  EXPECT_EQ(imported.config_json.find("e-06"), std::string::npos) << imported.config_json;
  for (const auto& [path, weight] : source.weights)
    EXPECT_EQ(imported.model.weights.at(path).to_host<float>(), weight.to_host<float>()) << path;
  Llama llama(imported.model, {});
  const ag::Tensor ids = golden(GetParam(), "input_ids"), want = golden(GetParam(), "logits_f32");
  const ag::Tensor logits = llama.logits(test_support::flat(ids), ids.rows());
  EXPECT_LE(max_relative_distance(logits.reshaped(want.shape()), want), 2e-5);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, GgufModels,
                         testing::Values("llama-gqa-tied", "llama-rope-llama3"),
                         test_support::fixture_test_name);

TEST(Gguf, WhatIsQuantizedIsSaid) {
  const GgufModel imported = import_gguf(file("types.gguf"));
  EXPECT_EQ(nlohmann::json::parse(imported.config_json).at("dequantized_from"),
            "GGUF: 1 x BF16, 2 x F16, 2 x F32, 2 x Q4_0, 3 x Q4_1, 2 x Q8_0");
}

TEST(Gguf, GG18EveryTruncationIsRefused) {
  const std::vector<std::byte> whole = bytes_of("small.gguf");
  const GgufHeader header = parse_gguf("x", whole);
  uint64_t end = 0;
  for (const auto& [name, tensor] : header.tensors)
    end = std::max(end,
                   static_cast<uint64_t>(tensor.bytes.data() - whole.data()) + tensor.bytes.size());
  for (size_t size = 0; size < end; ++size) {
    // A copy of its own, so that a read beyond the end is one for the sanitizer.
    const std::vector<std::byte> part(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    expect_refusal(ExitCode::kBadData, "x:", [&] { parse_gguf("x", part); });
    if (testing::Test::HasFailure()) FAIL() << "cut at byte " << size;
  }
  EXPECT_NO_THROW(parse_gguf("x", {whole.data(), end}));  // the last padding may be missing
}

TEST(Gguf, EveryChangedByteOfTheHeaderIsTakenOrRefused) {
  std::vector<std::byte> bytes = bytes_of("types.gguf");
  const uint64_t header = parse_gguf("x", bytes).data_offset;
  for (size_t at = 0; at < header; ++at) {
    for (const int flip : {0x01, 0x80, 0xFF}) {
      const std::byte old = bytes[at];
      bytes[at] ^= static_cast<std::byte>(flip);
      try {
        import_gguf("x", bytes);
      } catch (const core::Error& error) {
        ASSERT_EQ(error.code(), ExitCode::kBadData) << error.what();
      }
      bytes[at] = old;
    }
  }
}

TEST(Gguf, GG14NamesTheBlockThatIsNotFinite) {
  std::vector<std::byte> bytes = bytes_of("types.gguf");
  const GgufTensor down = parse_gguf("x", bytes).tensors.at("blk.0.ffn_down.weight");
  const auto at = static_cast<size_t>(down.bytes.data() - bytes.data()) + 5 * 20;
  bytes[at] = std::byte{0x00};
  bytes[at + 1] = std::byte{0x7C};  // d: infinity
  expect_refusal(ExitCode::kBadData,
                 "x:blk.0.ffn_down.weight: error: values: expected finite numbers, got NaN or "
                 "infinity in block 5 of Q4_1",
                 [&] { import_gguf("x", bytes); });
}

}  // namespace
}  // namespace model
