// A conversion from folder to folder holds a layer of the model at a time, never the model.
#include <gtest/gtest.h>

#include <random>

#include "autograd/core/pool.h"
#include "model/convert.h"
#include "model/safetensors.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/models/calibration.h"
#include "trainer/models/conversion_passes.h"
#include "trainer/models/model_folder.h"
#include "trainer/models/parity.h"
#include "trainer/run/conversion_plan.h"

namespace {

using namespace trainer;
using test_support::TemporaryFolder;
namespace fs = std::filesystem;

constexpr int64_t kLayers = 24, kWidth = 96, kHidden = 256, kVocab = 300, kHeads = 4;

const char kConfig[] = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "hidden_act": "silu", "hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 24,
  "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 300,
  "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
  "tie_word_embeddings": false})";

// Two shards of bfloat16.
void write_source(const fs::path& folder) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal(0.0F, 0.1F);
  const auto matrix = [&](int64_t rows, int64_t columns) {
    std::vector<ag::bf16> values(static_cast<size_t>(rows * columns));
    for (ag::bf16& value : values) value = ag::bf16(normal(random));
    return ag::Tensor::from_host<ag::bf16>({rows, columns}, values);
  };
  const std::vector<ag::bf16> ones(kWidth, ag::bf16(1.0F));
  const ag::Tensor norm = ag::Tensor::from_host<ag::bf16>({kWidth}, ones);
  std::map<std::string, ag::Tensor> shards[2];
  shards[0] = {{"model.embed_tokens.weight", matrix(kVocab, kWidth)},
               {"model.norm.weight", norm},
               {"lm_head.weight", matrix(kVocab, kWidth)}};
  for (int64_t layer = 0; layer < kLayers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    auto& shard = shards[layer % 2];
    for (const char* name : {"q", "k", "v", "o"})
      shard[prefix + "self_attn." + name + "_proj.weight"] = matrix(kWidth, kWidth);
    shard[prefix + "mlp.gate_proj.weight"] = matrix(kHidden, kWidth);
    shard[prefix + "mlp.up_proj.weight"] = matrix(kHidden, kWidth);
    shard[prefix + "mlp.down_proj.weight"] = matrix(kWidth, kHidden);
    shard[prefix + "input_layernorm.weight"] = norm;
    shard[prefix + "post_attention_layernorm.weight"] = norm;
  }
  nlohmann::json index = {{"weight_map", nlohmann::json::object()}};
  for (const int i : {0, 1}) {
    const std::string name = "model-0000" + std::to_string(i + 1) + "-of-00002.safetensors";
    model::write_safetensors(folder / name, shards[i]);
    for (const auto& [tensor, values] : shards[i]) index["weight_map"][tensor] = name;
  }
  test_support::spill(folder / "model.safetensors.index.json", index.dump());
  test_support::spill(folder / "config.json", kConfig);
}

std::vector<WindowSource> windows() {
  return {{.name = "ids",
           .protocol = "ids",
           .count = 6,
           .sequence_length = 32,
           .read = [](int64_t index, int32_t* out) {
             for (int32_t t = 0; t < 32; ++t)
               out[t] = static_cast<int32_t>((index * 37 + t * 11) % kVocab);
           }}};
}

const model::ConversionOptions kOptions = {{model::RopeStrategy::two_norm, 4, 0},
                                           model::RopeScore::product,
                                           model::LatentMethod::joint,
                                           6};

class StreamingConversion : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ / "source");
    write_source(folder_ / "source");
    source_ = stream_model(folder_ / "source");
  }

  std::string convert(const fs::path& out, bool must_be_same = false) {
    const SourcePass before = pass_source(*source_.weights, windows(), true, true);
    model::ConvertedReader converted(
        *source_.weights, model::converted_spec(source_.weights->spec(), kOptions, &*before.norms));
    return save_model(out, converted, source_.companions,
                      [&](const fs::path& written, Manifest& m) {
                        const auto stored = state_reader(written, m.tensors);
                        after_ = pass_converted(*source_.weights, before, *stored, windows());
                        require_verdict(after_.agreement, must_be_same, "out");
                      });
  }

  TemporaryFolder folder_;
  OpenedModel source_;
  ConvertedPass after_;
};

TEST_F(StreamingConversion, HoldsALayerAndNotTheModel) {
  const model::ModelSpec& spec = source_.weights->spec();
  const model::PairNorms norms = equal_pair_norms(spec.config);
  const ConversionPlan plan = plan_conversion(
      *source_.weights, model::converted_spec(spec, kOptions, &norms), windows(), kConversionBatch);
  ag::Pool::reset_peak();
  const int64_t before = ag::Pool::statistics().live_bytes;
  convert(folder_ / "out");
  const int64_t peak = ag::Pool::statistics().peak_bytes - before;
  const auto model_in_float32 = 4 * spec.parameter_count();
  EXPECT_LE(peak, static_cast<int64_t>(plan.memory.peak() - plan.memory.runtime));
  EXPECT_LT(4 * peak, model_in_float32) << "the test must tell a layer from the model";
}

TEST_F(StreamingConversion, HasTheBitsOfTheWholeModel) {
  convert(folder_ / "out");
  const LoadedModel source = load_model(folder_ / "source"), out = load_model(folder_ / "out");
  model::MemoryReader weights(source.model);
  const model::PairNorms norms = calibrate(weights, windows(), kConversionBatch).norms;
  const model::Conversion whole = model::convert(source.model, kOptions, &norms);
  EXPECT_EQ(out.hash, model_hash(whole.model));
  EXPECT_EQ(source.hash, source_.hash);
  EXPECT_TRUE(compare_bits(out.model, whole.model).empty());
  model::MemoryReader converted(whole.model);
  EXPECT_EQ(after_.loss->nll, loss_of(converted, windows(), kConversionBatch, "loss").nll);
  std::vector<WindowSource> verdict = verdict_windows(windows(), source.model.spec.config);
  const Agreement alone = compare_logits(weights, converted, verdict);
  EXPECT_EQ(after_.agreement.positions(), alone.positions());
  EXPECT_NEAR(after_.agreement.kl(), alone.kl(), 1e-5 * alone.kl()) << "other batches";
}

TEST_F(StreamingConversion, LeavesNothingWhenTheVerdictFails) {
  test_support::expect_refusal(core::ExitCode::kNumerical, "logits",
                               [&] { convert(folder_ / "out", true); });
  std::vector<std::string> names;
  for (const fs::path& path : core::list_directory(folder_.path()))
    names.push_back(path.filename());
  EXPECT_EQ(names, std::vector<std::string>{"source"});
}

}  // namespace
