// A small model for tests of the engine: tied embedding, residual SwiGLU blocks, loss.
#pragma once

#include <string>
#include <vector>

#include "autograd/checkpoint.h"
#include "autograd/ops.h"
#include "tests/support/gradcheck.h"

namespace ag::test {

class ResidualStack {
 public:
  enum class Recompute { kOff, kOn };

  ParamStore store;
  Tensor ids;
  int block_calls = 0;

  // The table is used first (embedding) and last (loss).
  ResidualStack(int64_t tokens, int64_t width, int blocks, DType type = DType::f64,
                bool trainable = true)
      : store(declarations(width, blocks, trainable), type), blocks_(blocks) {
    uint64_t seed = 0;
    for (Param& p : store.all())
      store.load(p, test_support::random_tensor(p.shape, ++seed, store.wide_dtype()));
    store.select_gradient(store.make_gradient());
    std::vector<int32_t> numbers;
    for (int64_t i = 0; i < tokens; ++i) numbers.push_back(static_cast<int32_t>(i * i % kWords));
    ids = Tensor::from_host<int32_t>({tokens}, numbers);
  }

  Value block(const Value& x, int i) {
    const std::string name = std::to_string(i);
    ++block_calls;
    const Value h = rms_norm(x, store.at(name + ".norm"), 1e-5, store.compute_dtype());
    const Value up = swiglu(linear(h, store.at(name + ".gate"), nullptr),
                            linear(h, store.at(name + ".up"), nullptr));
    return linear_residual(up, store.at(name + ".down"), nullptr, x);
  }

  Value hidden(Tape& tape, Recompute recompute) {
    Value x = embedding(tape, store.at("table"), ids);
    for (int i = 0; i < blocks_; ++i) {
      x = recompute == Recompute::kOn
              ? checkpoint(x, [this, i](const Value& in) { return block(in, i); })
              : block(x, i);
    }
    return x;
  }

  Value loss(Tape& tape, Recompute recompute = Recompute::kOff) {
    const Value h =
        rms_norm(hidden(tape, recompute), store.at("norm"), 1e-5, store.compute_dtype());
    return linear_cross_entropy(h, store.at("table"), ids);
  }

  // Gradients of all parameters after one step from zero.
  std::vector<double> gradients(Recompute recompute) {
    Tensor flat = store.make_gradient();
    store.select_gradient(flat);
    Tape tape;
    tape.backward(loss(tape, recompute), 1.0);
    return test_support::doubles(flat);
  }

 private:
  static constexpr int64_t kWords = 11;
  static std::vector<ParamStore::Declaration> declarations(int64_t width, int blocks,
                                                           bool trainable) {
    std::vector<ParamStore::Declaration> all{{"table", {kWords, width}, trainable},
                                             {"norm", {width}, trainable}};
    for (int i = 0; i < blocks; ++i) {
      const std::string name = std::to_string(i);
      all.push_back({name + ".norm", {width}, trainable});
      all.push_back({name + ".gate", {2 * width, width}, trainable});
      all.push_back({name + ".up", {2 * width, width}, trainable});
      all.push_back({name + ".down", {width, 2 * width}, trainable});
    }
    return all;
  }

  int blocks_;
};

}  // namespace ag::test
