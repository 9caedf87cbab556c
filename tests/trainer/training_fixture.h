// A small model, a small shard and a trainer on them, for the tests of the loop.
#pragma once

#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "data/shard_writer.h"
#include "model/convert.h"
#include "model/hf_import.h"
#include "tests/support/fixture.h"
#include "trainer/ranks/comm.h"
#include "trainer/step/trainer.h"

namespace test_support {

// MPI can be initialised once in a process.
inline trainer::Comm& the_comm() {
  static int argc = 0;
  static char** argv = nullptr;
  static trainer::Comm comm(argc, argv);
  return comm;
}

// A shard of `tokens` ids below `vocab`, drawn with a skew so that there is something to learn.
inline void write_shard(const std::filesystem::path& prefix, int64_t tokens, int64_t vocab) {
  std::mt19937 random(7);
  std::vector<uint32_t> ids;
  for (int64_t i = 0; i < tokens; ++i) {
    const auto skewed = static_cast<uint32_t>(random()) % static_cast<uint32_t>(vocab);
    ids.push_back(i % 3 == 0 || ids.empty() ? skewed
                                            : (ids.back() * 5 + 1) % static_cast<uint32_t>(vocab));
  }
  data::ShardOrigin origin;
  origin.vocab_size = vocab;
  data::ShardWriter writer(prefix, origin);
  writer.append(ids);
  writer.finish();
}

inline model::Model mla_model(const std::string& fixture, int64_t r, int64_t c) {
  const model::Model source = model::import_hf(fixture_path(fixture));
  model::ConversionOptions options;
  options.rope = {.strategy = model::RopeStrategy::high, .pairs_per_head = r, .uniform_start = 0};
  options.latent_dims_per_kv_head = c;
  return model::convert(source, options, nullptr).model;
}

// One stage on `shard`, 8 sequences of 12 tokens a step, f32 on one thread.
inline trainer::Config small_config(const std::filesystem::path& shard) {
  trainer::Config c;
  c.model.dtype = "float32";
  c.data_stages.resize(1);
  c.data_stages[0].data.dataset.dataset_folder = {shard.string()};
  c.tokens = {
      .sequence_length = 12, .micro_batch_size = 2, .global_batch_size = 8, .train_steps = 10};
  c.optimizer.learning_rate_scheduler.learning_rate = 1e-3;
  c.parallelism.threads_per_rank.count = 1;
  c.parallelism.reduction_shards = 4;
  return c;
}

// Data and trainer with one lifetime.
struct Training {
  data::NanosetStages data;
  trainer::Trainer trainer;

  Training(const trainer::Config& config, const model::Model& model)
      : data(trainer::open_training_data(config, model.spec.config.vocab_size)),
        trainer(config, the_comm(), model, data) {}
  std::vector<trainer::StepReport> steps(int64_t n) {
    std::vector<trainer::StepReport> reports;
    for (int64_t i = 0; i < n; ++i) reports.push_back(trainer.step());
    return reports;
  }
};

}  // namespace test_support
