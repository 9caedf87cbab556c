// Model folders: what is saved is what is loaded, from each kind of folder, with pairs and widths
// that differ between heads and layers.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/models/model_folder.h"

#include "trainer/checkpoint/checkpoint.h"

namespace {

namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;

const fs::path kSource = fs::path(MHA2MLA_TEST_DATA) / "llama-gqa-tied";

// The source's sizes, every layer another method, with uneven pairs per head.
model::Model mixed_model() {
  model::Model source = load_model(kSource).model;
  model::Model mixed{source.spec, {}};
  const auto pairs = static_cast<int32_t>(source.spec.config.pairs());
  for (size_t layer = 0; layer < mixed.spec.attention.size(); ++layer) {
    model::AttentionSpec& spec = mixed.spec.attention[layer];
    spec.method = layer % 2 == 0 ? model::LatentMethod::split : model::LatentMethod::joint;
    spec.latent_dims = 5 + static_cast<int64_t>(layer);
    for (size_t head = 0; head < spec.kept_pairs.size(); ++head)
      spec.kept_pairs[head] =
          head == 0 ? std::vector<int32_t>{pairs - 1} : std::vector<int32_t>{0, pairs / 2};
  }
  float next = 0.25f;
  for (const auto& parameter : model::parameter_shapes(mixed.spec)) {
    ag::Tensor t = ag::Tensor::empty(parameter.shape, ag::DType::f32);
    for (int64_t i = 0; i < t.numel(); ++i) static_cast<float*>(t.view().data)[i] = next += 0.125f;
    mixed.weights.emplace(parameter.path, t);
  }
  return mixed;
}

TEST(ModelFolder, HuggingFaceToNativeKeepsModelHashAndCompanions) {
  TemporaryFolder folder;
  const LoadedModel source = load_model(kSource);
  EXPECT_EQ(source.kind, ModelKind::hugging_face);
  const std::string hash = save_model((folder / "native").string() + "/", source.model, kSource);
  EXPECT_EQ(hash, manifest_hash(folder / "native"));
  const LoadedModel native = load_model(folder / "native");
  EXPECT_EQ(native.kind, ModelKind::native);
  EXPECT_EQ(native.hash, source.hash);
  EXPECT_EQ(native.model.spec, source.model.spec);
  EXPECT_EQ(native.companions.size(), source.companions.size());
  EXPECT_EQ(slurp(folder / "native/config.json"), slurp(kSource / "config.json"));
}

TEST(ModelFolder, HoldsUnevenPairsAndWidths) {
  TemporaryFolder folder;
  const model::Model mixed = mixed_model();
  save_model(folder / "a", mixed, kSource);
  const LoadedModel loaded = load_model(folder / "a");
  EXPECT_EQ(loaded.model.spec, mixed.spec);
  EXPECT_EQ(loaded.hash, model_hash(mixed));
  save_model(folder / "b", loaded.model, folder / "a");
  EXPECT_EQ(slurp(folder / "a/model-00001-of-00001.h5"),
            slurp(folder / "b/model-00001-of-00001.h5"));
  EXPECT_FAILS(kRunLocked, "exists", save_model(folder / "a", mixed, kSource));
}

TEST(ModelFolder, CheckpointsAndRunsAreModels) {
  TemporaryFolder folder;
  const model::Model mixed = mixed_model();
  StateRegistry registry;
  register_kept_pairs(registry, mixed.spec);
  for (const auto& [path, weight] : mixed.weights) {
    registry.add_tensor(path, weight);
    registry.add_tensor("optimizer.m/" + path, ag::Tensor::zeros(weight.shape(), ag::DType::f32));
  }
  const fs::path checkpoints = folder / "checkpoints";
  EXPECT_FAILS(kMissingInput, "MODEL", load_model(folder.path()));
  fs::create_directories(checkpoints);
  EXPECT_FAILS(kMissingInput, "none yet", load_model(folder.path()));
  for (const int64_t step : {10, 20})
    save_checkpoint(checkpoints, registry.view(),
                    {.step = step, .config = "", .companions = load_model(kSource).companions});
  EXPECT_EQ(load_model(checkpoints / "step-000000010").kind, ModelKind::checkpoint);
  spill(checkpoints / "step-000000020" / kManifestName, "");
  const LoadedModel run = load_model(folder.path());
  EXPECT_EQ(run.kind, ModelKind::run);
  EXPECT_EQ(run.folder, checkpoints / "step-000000010");
  EXPECT_EQ(run.model.spec, mixed.spec);
  EXPECT_EQ(run.hash, model_hash(mixed));
  EXPECT_EQ(run.notes.size(), 1u);
  EXPECT_TRUE(fs::exists(checkpoints / "step-000000020"));
}

TEST(ModelFolder, DamageAndForeignStateAreRefused) {
  TemporaryFolder folder;
  save_model(folder / "a", mixed_model(), kSource);
  const fs::path file = folder / "a/model-00001-of-00001.h5";
  std::string bytes = slurp(file);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  spill(file, bytes);
  EXPECT_FAILS(kBadData, "hash", load_model(folder / "a"));

  const auto load_changed = [&](const std::string& name, auto change) {
    model::Model model = mixed_model();
    StateRegistry registry;
    std::vector<uint8_t> mask = kept_pairs_mask(model.spec);
    const model::LlamaConfig& c = model.spec.config;
    ag::Shape shape{c.num_hidden_layers, c.num_key_value_heads, c.pairs()};
    change(model.weights, mask, shape);
    for (const auto& [path, weight] : model.weights) registry.add_tensor(path, weight);
    registry.add_constant("kept_pairs", shape, mask);
    const SavedCheckpoint saved =
        save_checkpoint(folder / name, registry.view(),
                        {.step = 1, .config = "", .companions = load_model(kSource).companions});
    load_model(saved.path);
  };
  load_changed("same", [](auto&, auto&, auto&) {});
  EXPECT_FAILS(kBadData, "kept_pairs",
               load_changed("flat", [](auto&, auto&, auto& shape) { shape = {shape.numel()}; }));
  EXPECT_FAILS(kBadData, "got 2",
               load_changed("two", [](auto&, auto& mask, auto&) { mask[0] = 2; }));
  EXPECT_FAILS(kBadData, "norm.weight",
               load_changed("less", [](auto& w, auto&, auto&) { w.erase("norm.weight"); }));
  EXPECT_FAILS(kBadData, "float64", load_changed("wide", [](auto& w, auto&, auto&) {
                 w["norm.weight"] = ag::Tensor::zeros(w["norm.weight"].shape(), ag::DType::f64);
               }));
}

TEST(ModelFolder, AnythingElseSaysWhatWasLookedFor) {
  TemporaryFolder folder;
  EXPECT_FAILS(kMissingInput, "a folder with none of them", load_model(folder.path()));
  EXPECT_FAILS(kMissingInput, "nothing", load_model(folder / "no"));
  spill(folder / "file", "x");
  EXPECT_FAILS(kMissingInput, "a file", load_model(folder / "file"));
}

}  // namespace
