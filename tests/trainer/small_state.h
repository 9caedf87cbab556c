// A training state of a few hundred bytes that is another one at each step.
#pragma once

#include <string>

#include "trainer/checkpoint/checkpoint.h"

namespace test_support {

class SmallState {
 public:
  SmallState() {
    registry_.add_tensor("layers.0.w", weight_);
    registry_.add_tensor("optimizer.m/layers.0.w", moment_);
    registry_.add_value(
        "step", [this] { return nlohmann::json(step_); },
        [this](const nlohmann::json& value) { step_ = value.get<int64_t>(); });
  }
  SmallState(const SmallState&) = delete;
  SmallState& operator=(const SmallState&) = delete;

  void set_step(int64_t step) {
    step_ = step;
    for (ag::Tensor* tensor : {&weight_, &moment_}) {
      auto* values = static_cast<float*>(tensor->view().data);
      for (int64_t i = 0; i < tensor->numel(); ++i)
        values[i] = static_cast<float>(step * 1000 + i) * (tensor == &weight_ ? 0.5f : 0.25f);
    }
  }
  void save(const std::filesystem::path& directory) const {
    trainer::save_checkpoint(directory, registry_.view(),
                             {.step = step_, .config = "small: true\n", .companions = {}});
  }
  void load(const std::filesystem::path& checkpoint) {
    trainer::load_checkpoint(checkpoint, registry_);
  }
  std::vector<trainer::H5Source> sources() const { return registry_.sources(); }

  // All of it as bytes.
  std::string bytes() const {
    std::string all = registry_.values().dump();
    for (const trainer::H5Source& source : registry_.sources())
      all.append(static_cast<const char*>(source.data), source.bytes());
    return all;
  }
  static std::string bytes_at(int64_t step) {
    SmallState state;
    state.set_step(step);
    return state.bytes();
  }

 private:
  ag::Tensor weight_ = ag::Tensor::zeros({4, 9}, ag::DType::f32);
  ag::Tensor moment_ = ag::Tensor::zeros({4, 9}, ag::DType::f32);
  int64_t step_ = 0;
  trainer::StateRegistry registry_;
};

}  // namespace test_support
