#include "model/hf_import.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/hf_names.h"
#include "model/safetensors.h"
#include "tests/support/fixture.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace model {
namespace {

using core::ExitCode;
using nlohmann::json;
using test_support::expect_refusal;
using test_support::fixture_path;
using test_support::TemporaryFolder;
using Tensors = std::map<std::string, ag::Tensor>;

const std::string kEmbedding = "model.embed_tokens.weight";
const std::string kQuery = "model.layers.0.self_attn.q_proj.weight";

Tensors tensors_of(const std::string& fixture) {
  const SafetensorsFile file(fixture_path(fixture) / "model.safetensors");
  Tensors tensors;
  for (const auto& [name, info] : file.tensors()) tensors[name] = file.load(name);
  return tensors;
}

// A copy of a fixture's configuration in which tests put weights of their own.
class Folder : public TemporaryFolder {
 public:
  explicit Folder(const std::string& fixture) {
    core::copy_file_atomically(fixture_path(fixture) / "config.json", path() / "config.json");
  }
  void weights(const Tensors& tensors) const {
    write_safetensors(path() / "model.safetensors", tensors, {{"format", "pt"}});
  }
  // Deals the tensors out to three files in turn and returns the index.
  json shards(const Tensors& tensors) const {
    std::map<std::string, Tensors> files;
    json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", json::object()}};
    int64_t bytes = 0, next = 0;
    for (const auto& [name, tensor] : tensors) {
      const std::string file =
          "model-0000" + std::to_string(next++ % 3 + 1) + "-of-00003.safetensors";
      files[file][name] = tensor;
      index["weight_map"][name] = file;
      bytes += tensor.bytes();
    }
    for (const auto& [file, part] : files) write_safetensors(path() / file, part);
    index["metadata"]["total_size"] = bytes;
    write_index(index);
    return index;
  }
  void write_index(const json& index) const { write("model.safetensors.index.json", index.dump()); }
  void expect_bad(const std::string& part, ExitCode code = ExitCode::kBadData) const {
    expect_refusal(code, part, [&] { import_hf(path()); });
  }
};

TEST(HfImport, ReadsEveryFixture) {
  for (const std::string name : {"llama-mha", "llama-gqa-tied", "llama-headdim-bias",
                                 "llama-rope-llama3", "llama-rope-linear", "qwen2", "mistral"}) {
    std::vector<std::string> notes;
    const Model model = import_hf(fixture_path(name), &notes);
    EXPECT_TRUE(notes.empty()) << name << ": " << notes[0];
    const LlamaConfig& c = model.spec.config;
    const auto shape = [&](const std::string& path) { return model.weights.at(path).shape(); };
    EXPECT_TRUE(shape("embed.weight") == (ag::Shape{97, 48})) << name;
    EXPECT_TRUE(shape("layers.1.attn.k.weight") ==
                (ag::Shape{c.num_key_value_heads * c.head_dim, 48}));
    EXPECT_TRUE(shape("layers.1.mlp.down.weight") == (ag::Shape{48, 80}));
    EXPECT_EQ(model.weights.contains("lm_head.weight"), !c.tie_word_embeddings) << name;
    EXPECT_EQ(model.weights.contains("layers.0.attn.v.bias"), c.qkv_bias) << name;
    EXPECT_EQ(model.weights.contains("layers.0.attn.o.bias"), c.output_bias) << name;
    const SafetensorsFile file(fixture_path(name) / "model.safetensors");
    for (const auto& [path, tensor] : model.weights)
      EXPECT_EQ(tensor.to_host<float>(), file.load(*hf_name_of_path(path)).to_host<float>());
  }
}

TEST(HfImport, NamesMapBothWays) {
  EXPECT_EQ(path_of_hf_name(kQuery), "layers.0.attn.q.weight");
  EXPECT_EQ(path_of_hf_name("model.layers.12.self_attn.k_proj.bias"), "layers.12.attn.k.bias");
  for (const std::string fixture : {"llama-headdim-bias", "qwen2", "qwen3"})
    for (const auto& [name, tensor] : tensors_of(fixture))
      EXPECT_EQ(hf_name_of_path(path_of_hf_name(name).value()), name);
  for (const std::string name :
       {"model.layers.0.self_attn.qk_norm.weight", "model.layers.x.mlp.up_proj.weight",
        "model.layers.01.mlp.up_proj.weight", "model.layers.1", "lm_head", ""})
    EXPECT_EQ(path_of_hf_name(name), std::nullopt) << name;
  EXPECT_EQ(hf_name_of_path("layers.0.attn.kv_down.weight"), std::nullopt);
}

TEST(HfImport, ReadsShards) {
  const Folder folder("llama-mha");
  folder.shards(tensors_of("llama-mha"));
  std::vector<std::string> notes;
  const Model sharded = import_hf(folder.path(), &notes);
  EXPECT_TRUE(notes.empty());
  const Model whole = import_hf(fixture_path("llama-mha"));
  ASSERT_EQ(sharded.weights.size(), whole.weights.size());
  for (const auto& [path, tensor] : whole.weights)
    EXPECT_EQ(sharded.weights.at(path).to_host<float>(), tensor.to_host<float>()) << path;
}

TEST(HfImport, RefusesAnIndexThatDoesNotFit) {
  const Tensors tensors = tensors_of("llama-mha");
  const Folder folder("llama-mha");
  const json good = folder.shards(tensors);
  const auto mapped = [&](const json& file) {
    json index = good;
    index["weight_map"][kEmbedding] = file;
    folder.write_index(index);
  };
  for (const json& file : {json("../x"), json("/etc/passwd"), json(".."), json(""), json(3),
                           json("http://x/y"), json(std::string("a\0b", 3))}) {
    mapped(file);
    folder.expect_bad("weight_map." + kEmbedding);
  }
  mapped("absent.safetensors");
  folder.expect_bad("absent.safetensors", ExitCode::kMissingInput);
  mapped(good["weight_map"].back() == "model-00001-of-00003.safetensors"
             ? "model-00002-of-00003.safetensors"
             : "model-00003-of-00003.safetensors");
  folder.expect_bad("no such tensor there");
  folder.write("model.safetensors.index.json", R"({"weight_map":{"a":"b","a":"c"}})");
  folder.expect_bad("duplicate key");
  folder.write_index({{"weight_map", {1}}});
  folder.expect_bad("weight_map: expected an object");
  folder.write_index(json::object());
  folder.expect_bad("weight_map");
  json many = json::object();
  for (int i = 0; i < 70'000; ++i) many[std::to_string(i)] = "x";
  folder.write_index({{"weight_map", many}});
  folder.expect_bad("at most 65536 tensors");
  folder.write_index(good);
  folder.write("model-00002-of-00003.safetensors", "version https://git-lfs.github.com/spec/v1\n");
  folder.expect_bad("git lfs pull");
}

TEST(HfImport, RefusesATensorInTwoShardsAndNotesOddities) {
  const Folder folder("llama-mha");
  const Tensors tensors = tensors_of("llama-mha");
  json index = folder.shards(tensors);
  index["metadata"]["total_size"] = 1;
  folder.write_index(index);
  write_safetensors(folder.path() / "other.safetensors", {});
  std::vector<std::string> notes;
  import_hf(folder.path(), &notes);
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_NE(notes[0].find("other.safetensors"), std::string::npos);
  EXPECT_NE(notes[1].find("total_size is 1"), std::string::npos);
  index["weight_map"]["extra"] = "other.safetensors";
  folder.write_index(index);
  write_safetensors(folder.path() / "other.safetensors",
                    {{"extra", tensors.at(kEmbedding)}, {kEmbedding, tensors.at(kEmbedding)}});
  folder.expect_bad("in one file only");
}

TEST(HfImport, SaysWhichWeightsAreMissing) {
  const Folder folder("llama-mha");
  folder.expect_bad("model.safetensors.index.json, got neither", ExitCode::kMissingInput);
  folder.write("pytorch_model.bin", "x");
  folder.expect_bad("only pytorch_model.bin; pickle");
  expect_refusal(ExitCode::kMissingInput, "no folder",
                 [&] { import_hf(folder.path() / "absent"); });
}

TEST(HfImport, RefusesOtherNamesThanTheConfigurationGives) {
  const Folder folder("llama-mha");
  const Tensors good = tensors_of("llama-mha");
  Tensors t = good;
  t.erase(kQuery);
  folder.weights(t);
  folder.expect_bad("missing 1 (" + kQuery + ")");
  t = good;
  t["model.layers.0.self_attn.q_norm.weight"] = good.at("model.norm.weight");
  folder.weights(t);
  folder.expect_bad("q_norm.weight); these are the weights of a model with QK-norm");
  t.clear();
  for (const auto& [name, tensor] : good) t["module." + name] = tensor;
  folder.weights(t);
  folder.expect_bad("names carry the prefix \"module.\"");
  t = good;
  t["model.layers.0.self_attn.rotary_emb.inv_freq"] = good.at("model.norm.weight");
  folder.weights(t);
  EXPECT_NO_THROW(import_hf(folder.path()));
}

TEST(HfImport, RefusesOtherShapesTypesAndValues) {
  const Folder folder("llama-mha");
  const Tensors good = tensors_of("llama-mha");
  const auto expect_bad_with = [&](const std::string& name, const ag::Tensor& tensor,
                                   const std::string& part) {
    Tensors t = good;
    t[name] = tensor;
    folder.weights(t);
    folder.expect_bad(part);
  };
  const std::string gate = "model.layers.0.mlp.gate_proj.weight";
  expect_bad_with(gate, good.at(gate).reshaped({48, 80}),
                  "expected [80, 48] = [intermediate_size, hidden_size], got [48, 80]");
  expect_bad_with("model.norm.weight", ag::Tensor::zeros({48}, ag::DType::f64),
                  "expected F32, BF16 or F16, got F64");
  expect_bad_with("model.norm.weight", ag::Tensor::zeros({0, 48}, ag::DType::f32), "got [0, 48]");
  std::vector<float> values(48, 1.0f);
  values[7] = NAN;
  values[9] = INFINITY;
  expect_bad_with("model.norm.weight", ag::Tensor::from_host<float>({48}, values),
                  "2 NaN or infinite, the first at element 7");
  std::vector<ag::bf16> halves(48, ag::bf16(-INFINITY));
  expect_bad_with("model.norm.weight", ag::Tensor::from_host<ag::bf16>({48}, halves),
                  "48 NaN or infinite");
}

TEST(HfImport, TiedHeadsMustBeTheEmbedding) {
  const Folder tied("llama-gqa-tied");
  Tensors t = tensors_of("llama-gqa-tied");
  t["lm_head.weight"] = t.at(kEmbedding);
  tied.weights(t);
  EXPECT_FALSE(import_hf(tied.path()).weights.contains("lm_head.weight"));
  t["lm_head.weight"] = ag::Tensor::zeros({97, 48}, ag::DType::f32);
  tied.weights(t);
  tied.expect_bad("lm_head.weight: error: values: expected those of " + kEmbedding);
  const Folder untied("llama-mha");
  t = tensors_of("llama-mha");
  t.erase("lm_head.weight");
  untied.weights(t);
  untied.expect_bad("tie_word_embeddings");
}

TEST(HfImport, CompanionsAndStopIds) {
  const Folder folder("llama-mha");
  folder.write("tokenizer.json", "{}");
  EXPECT_EQ(companion_files(folder.path()),
            (std::vector<std::string>{"config.json", "tokenizer.json"}));
  EXPECT_EQ(read_generation_eos(folder.path()), std::vector<int64_t>{2});
  folder.write("generation_config.json", R"({"eos_token_id": [7, 2, 9]})");
  EXPECT_EQ(read_generation_eos(folder.path()), (std::vector<int64_t>{2, 7, 9}));
  folder.write("generation_config.json", "[]");
  expect_refusal(ExitCode::kBadData, "generation_config.json",
                 [&] { read_generation_eos(folder.path()); });
}

TEST(HfImport, ReadsTheTinyModelInBfloat16) {
  const Model model = import_hf(std::filesystem::path(MHA2MLA_SOURCE_DIR) / "examples/tiny-llama");
  EXPECT_TRUE(model.weights.at("embed.weight").dtype() == ag::DType::bf16);
  EXPECT_TRUE(model.weights.at("layers.5.attn.q.weight").shape() == (ag::Shape{192, 192}));
}

}  // namespace
}  // namespace model
