// Run under mpirun by run_comm_test.cmake: the same training with the whole optimizer state on
// every rank and with a share of it. Same bits; and the memory that the shares save is what was
// predicted.
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "autograd/core/pool.h"
#include "autograd/kernels/kernels.h"
#include "core/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/training_fixture.h"
#include "trainer/checkpoint/replica_check.h"
#include "trainer/checkpoint/state_snapshot.h"
#include "trainer/step/memory.h"

namespace trainer {
namespace {

constexpr int64_t kWords = 1024;

void require(bool holds, const std::string& what) {
  if (!holds) core::fail(core::ExitCode::kInternal, {.field = "test", .expected = what});
}

// Two layers; 0.9 million parameters, of which attention and norms are a part.
model::Model random_model() {
  model::LlamaConfig c;
  c.vocab_size = kWords;
  c.hidden_size = 192;
  c.intermediate_size = 512;
  c.num_hidden_layers = 2;
  c.num_attention_heads = c.num_key_value_heads = 6;
  c.head_dim = 32;
  c.max_position_embeddings = 64;
  c.tie_word_embeddings = true;
  const model::ModelSpec spec = model::ModelSpec::unconverted(c);
  model::Weights weights;
  std::mt19937 random(3);
  for (const model::ParameterShape& p : model::parameter_shapes(spec)) {
    std::vector<float> values(static_cast<size_t>(p.shape.numel()));
    for (float& value : values)
      value = static_cast<float>(static_cast<double>(random()) * 0x1p-36 - 0.03125);
    weights.emplace(p.path, ag::Tensor::from_host<float>(p.shape, values));
  }
  return {spec, weights};
}

struct Outcome {
  std::vector<std::string> hashes;  // of the whole state; rank 0
  int64_t bytes = 0;                // in tensors of this rank
};

Outcome train(const Config& config, const model::Model& model, const data::NanosetStages& data,
              Comm& comm) {
  const int64_t before = ag::Pool::statistics().live_bytes;
  Trainer trainer(config, comm, model, data);
  for (int step = 0; step < 3; ++step) trainer.step();
  Outcome outcome{.bytes = ag::Pool::statistics().live_bytes - before};
  require_equal_replicas(comm, trainer.registry());
  StateSnapshot snapshot(trainer.registry());
  snapshot.take(trainer.registry());
  gather_dealt(comm, trainer.registry(), comm.rank() == 0 ? &snapshot : nullptr);
  snapshot.complete(trainer.registry());
  if (comm.rank() == 0)
    for (const H5Source& source : snapshot.view().sources)
      outcome.hashes.push_back(source.name + " " + source.hash);
  return outcome;
}

// What every rank has is compared although the masters are dealt.
void require_check_of_replicas(const Config& config, const model::Model& model,
                               const data::NanosetStages& data, Comm& comm) {
  Trainer trainer(config, comm, model, data);
  require_equal_replicas(comm, trainer.registry());
  ag::Tensor working = trainer.model().params().at("layers.1.mlp.up.weight").working;
  if (comm.rank() == 1) *static_cast<unsigned char*>(working.view().data) ^= 1;
  core::ExitCode code = core::ExitCode::kOk;
  try {
    require_equal_replicas(comm, trainer.registry());
  } catch (const AgreedError& e) {
    code = e.code();
  }
  require((code == core::ExitCode::kReplicasDiffer) == (comm.size() > 1), "one bit to be seen");
}

void run(Comm& comm) {
  ag::set_threads(1);
  const test_support::TemporaryFolder folder;
  test_support::write_shard(folder.path() / "train", 4000, kWords);
  Config config = test_support::small_config(folder.path() / "train.ds");
  const data::NanosetStages data = open_training_data(config, kWords);
  const model::Model model = random_model();
  for (const char* dtype : {"float32", "bfloat16"})
    for (const char* trainable : {"all", "attention"}) {
      config.model.dtype = dtype;
      config.model.trainable = trainable;
      Outcome outcomes[2];
      uint64_t predicted[2];
      for (const int stage : {0, 1}) {
        config.optimizer.zero_stage = stage;
        outcomes[stage] = train(config, model, data, comm);
        const MemoryEstimate estimate = estimate_memory(config, model.spec, comm.size());
        predicted[stage] = estimate.weights + estimate.optimizer;
      }
      const std::string label = std::string(dtype) + ", trainable " + trainable;
      require(outcomes[0].hashes == outcomes[1].hashes, "the bits of stage 0: " + label);
      const auto saved = static_cast<double>(outcomes[0].bytes - outcomes[1].bytes);
      const auto expected = static_cast<double>(predicted[0] - predicted[1]);
      std::printf(
          "%s: rank %d of %d has %lld and %lld bytes in tensors, %.0f less; predicted %.0f\n",
          label.c_str(), comm.rank(), comm.size(), static_cast<long long>(outcomes[0].bytes),
          static_cast<long long>(outcomes[1].bytes), saved, expected);
      // A tile of elements for each of moments and masters, in each of two regions.
      constexpr double kRounding = 4 * 4 * ag::kShareTile * sizeof(float);
      require(comm.size() == 1 ? saved == 0 : std::abs(saved - expected) <= kRounding,
              "the memory that was predicted: " + label);
      require_check_of_replicas(config, model, data, comm);
    }
}

}  // namespace
}  // namespace trainer

int main(int argc, char** argv) {
  trainer::Comm comm(argc, argv);
  try {
    trainer::run(comm);
    return 0;
  } catch (...) {
    return comm.report(std::current_exception());
  }
}
