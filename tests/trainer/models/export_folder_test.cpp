// A Hugging Face folder on the disk: its shards, and that it appears whole or not at all.
#include "trainer/models/export_folder.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "core/json.h"
#include "model/hf_import.h"
#include "model/safetensors.h"
#include "tests/support/crash_clone.h"
#include "tests/support/fixture.h"
#include "tests/support/io_fault.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/models/agreement.h"
#include "trainer/models/model_comparison.h"

namespace {

using namespace trainer;
using core::ExitCode;
using test_support::CrashJournal;
using test_support::fast_folder;
using test_support::FaultKind;
using test_support::FaultLength;
using test_support::IoFault;
using test_support::TemporaryFolder;
namespace fs = std::filesystem;

constexpr uint64_t kShardBytes = 40'000;
const auto kNoCheck = [](const fs::path&) {};

struct Source {
  fs::path folder = test_support::fixture_path("llama-gqa-tied");
  model::Model model = model::import_hf(folder);
  model::HfFolder contents = model::hf_folder(model, model::HfLayout::plain,
                                              core::read_text(folder / "config.json"), folder);

  void write(const fs::path& path) const {
    write_hf_folder(path, contents, {Companion(folder / "generation_config.json")}, kShardBytes,
                    kNoCheck);
  }
  bool equals(const fs::path& path) const {
    return compare_bits(model, model::import_hf(path)).empty() &&
           fs::exists(path / "generation_config.json");
  }
};

size_t entries_of(const fs::path& folder) {
  return static_cast<size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(ExportFolder, DealsTensorsToShards) {
  const TemporaryFolder folder;
  const Source source;
  const fs::path out = folder.path() / "out";
  source.write(out);
  const nlohmann::json index = core::read_json(out / "model.safetensors.index.json");
  int64_t bytes = 0;
  for (const auto& [path, weight] : source.model.weights) bytes += weight.bytes();
  EXPECT_EQ(index["metadata"]["total_size"], bytes);
  EXPECT_EQ(index["weight_map"].size(), source.model.weights.size());
  std::set<std::string> files;
  for (const auto& [tensor, file] : index["weight_map"].items()) files.insert(file);
  EXPECT_EQ(*files.begin(), "model-00001-of-0000" + std::to_string(files.size()) + ".safetensors");
  for (const std::string& name : files) {
    const model::SafetensorsFile file(out / name);
    EXPECT_EQ(file.metadata().at("format"), "pt");
    uint64_t size = 0;
    for (const auto& [tensor, stored] : file.tensors()) size += stored.end - stored.begin;
    EXPECT_LE(size, kShardBytes);
  }
  EXPECT_TRUE(source.equals(out));
}

TEST(ExportFolder, SmallModelsAreOneFileWithoutIndex) {
  const TemporaryFolder folder;
  const Source source;
  write_hf_folder(folder.path() / "out", source.contents, {}, 1 << 30, kNoCheck);
  EXPECT_TRUE(fs::exists(folder.path() / "out/model.safetensors"));
  EXPECT_FALSE(fs::exists(folder.path() / "out/model.safetensors.index.json"));
}

TEST(ExportFolder, WhatTheCheckRefusesNeverAppears) {
  const TemporaryFolder folder;
  const Source source;
  test_support::expect_refusal(ExitCode::kNumerical, "no", [&] {
    write_hf_folder(folder.path() / "out", source.contents, {}, kShardBytes,
                    [&](const fs::path& p) {
                      EXPECT_TRUE(fs::exists(p / "config.json"));
                      core::fail(ExitCode::kNumerical, {.found = "no"});
                    });
  });
  EXPECT_EQ(entries_of(folder.path()), 0U);
}

TEST(ExportFolder, IsWholeOrAbsentWhateverFails) {
  const Source source;
  for (const FaultKind kind : {FaultKind::full_disk, FaultKind::io_error, FaultKind::short_write}) {
    bool fired = true;
    int64_t nth = 1;
    for (; fired; ++nth) {
      const TemporaryFolder folder(fast_folder());
      const fs::path out = folder.path() / "out";
      bool written = false;
      {
        IoFault fault(kind, FaultLength::once, nth);
        try {
          source.write(out);
          written = true;
        } catch (const core::Error& e) {
          EXPECT_EQ(e.code(), ExitCode::kIo) << e.what();
        }
        fired = fault.fired();
      }
      EXPECT_TRUE(fs::exists(out) ? source.equals(out) : !written) << "operation " << nth;
      EXPECT_LE(entries_of(folder.path()), 1U) << "operation " << nth;
    }
    EXPECT_GT(nth, 15);
  }
}

TEST(ExportFolder, IsWholeOrAbsentAfterAPowerLoss) {
  const TemporaryFolder folder(fast_folder());
  const Source source;
  CrashJournal journal(folder.path());
  source.write(folder.path() / "out");
  std::mt19937_64 random(5);
  size_t whole = 0;
  for (size_t length = 0; length <= journal.size(); ++length) {
    const TemporaryFolder clone(fast_folder());
    journal.rebuild(length, random, clone.path());
    if (!fs::exists(clone.path() / "out")) continue;
    ++whole;
    EXPECT_TRUE(source.equals(clone.path() / "out")) << "after operation " << length;
  }
  EXPECT_GT(whole, 0U);
}

TEST(Verdict, SeesAnotherFunction) {
  const Source source;
  const std::vector<WindowSource> ids = spread_ids(source.model.spec.config);
  model::MemoryReader reader(source.model);
  require_same_function(compare_logits(reader, reader, ids), "same");
  model::Model other = source.model;
  ag::Tensor& weight = other.weights.at("layers.1.attn.v.weight");
  std::vector<float> values = weight.to_host<float>();
  values[7] *= 1.05F;
  weight = ag::Tensor::from_host<float>(weight.shape(), values);
  model::MemoryReader other_reader(other);
  test_support::expect_refusal(
      ExitCode::kNumerical, "other: error: logits: expected the source's within 0.0001",
      [&] { require_same_function(compare_logits(reader, other_reader, ids), "other"); });
}

TEST(Verdict, SpreadsItsIds) {
  model::LlamaConfig config;
  config.vocab_size = 49152;
  config.max_position_embeddings = 2048;
  const std::vector<WindowSource> sets = spread_ids(config);
  ASSERT_EQ(sets.size(), 1U);
  std::vector<int32_t> ids(static_cast<size_t>(sets[0].sequence_length));
  sets[0].read(0, ids.data());
  EXPECT_EQ(std::set<int32_t>(ids.begin(), ids.end()).size(), 64U);
  EXPECT_GE(*std::ranges::min_element(ids), 0);
  EXPECT_LT(*std::ranges::max_element(ids), 49152);
}

}  // namespace
