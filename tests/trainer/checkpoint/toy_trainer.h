// A trainer in small, and a folder for its checkpoints.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "tests/support/temporary_folder.h"
#include "trainer/checkpoint/checkpoint.h"

namespace test_support {

// Weights, moments, a step counter, an rng; each step depends on all of them.
struct Toy {
  ag::Tensor weight = ag::Tensor::zeros({4, 6}, ag::DType::f32);
  ag::Tensor moment = ag::Tensor::zeros({4, 6}, ag::DType::f32);
  ag::Tensor history = ag::Tensor::zeros({3}, ag::DType::f64);
  uint64_t random = 42;
  int64_t step = 0;
  double best = 0.1;
  trainer::StateRegistry registry;

  Toy() {
    registry.add_tensor("layers.0.w", weight);
    registry.add_tensor("optimizer.m/layers.0.w", moment);
    registry.add_tensor("history", history);
    registry.add_constant("kept_pairs", {1, 2, 2}, {1, 0, 0, 1});
    registry.add_value(
        "random", [this] { return nlohmann::json(random); },
        [this](const nlohmann::json& v) { random = v.get<uint64_t>(); });
    registry.add_value(
        "step", [this] { return nlohmann::json(step); },
        [this](const nlohmann::json& v) { step = v.get<int64_t>(); });
    registry.add_value(
        "best", [this] { return nlohmann::json(best); },
        [this](const nlohmann::json& v) { best = v.get<double>(); });
  }
  Toy(const Toy&) = delete;
  Toy& operator=(const Toy&) = delete;

  void train(int steps) {
    auto* w = static_cast<float*>(weight.view().data);
    auto* m = static_cast<float*>(moment.view().data);
    auto* h = static_cast<double*>(history.view().data);
    for (; steps > 0; --steps) {
      ++step;
      random = random * 6364136223846793005u + 1442695040888963407u;
      for (int i = 0; i < 24; ++i) {
        const auto noise = static_cast<float>((random >> (i % 32)) & 255) / 256.0f;
        m[i] = 0.9f * m[i] + 0.1f * (noise - w[i] + static_cast<float>(h[step % 3]));
        w[i] += m[i] / static_cast<float>(step);
      }
      h[step % 3] += static_cast<double>(w[0]) * best;
      best = 0.5 * best + 0.3 * static_cast<double>(w[1]);
    }
  }

  trainer::SavedCheckpoint save(const std::filesystem::path& directory,
                                uint64_t bytes_per_file = trainer::kBytesPerFile) {
    return trainer::save_checkpoint(directory, registry.view(),
                                    {.step = step,
                                     .config = "tokens: {train_steps: 9}\n",
                                     .provenance = {{"ranks", 1}},
                                     .companions = {},
                                     .bytes_per_file = bytes_per_file});
  }
  std::string state() const {
    std::string all = registry.values().dump();
    for (const trainer::H5Source& s : registry.sources())
      all.append(static_cast<const char*>(s.data), s.bytes());
    return all;
  }
};

inline constexpr char kStateFile[] = "state-00001-of-00001.h5";

class CheckpointFolder : public ::testing::Test {
 protected:
  TemporaryFolder temporary_;
  std::filesystem::path dir_ = temporary_ / "checkpoints";
  std::filesystem::path step(int n) const { return dir_ / ("step-00000000" + std::to_string(n)); }
};

}  // namespace test_support
