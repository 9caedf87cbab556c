// Gradient checks in float64: every wanted gradient of an op against central differences of
//   phi(inputs) = sum(cotangent * op(inputs)),  |analytic - numeric|_2 <= 1e-7 (|numeric|_2 +
//   floor).
// The cotangent is random: with ones, sums that are constant (softmax) would hide any error.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"
#include "tests/support/closeness.h"

namespace test_support {

// What the op under test is made of; everything else (ids, plans, flags) it captures.
struct OpInputs {
  ag::Tape& tape;
  ag::DType type;  // of activations
  std::vector<ag::Value> x;
  std::vector<ag::Param*> p;
  ag::Tensor cotangent = {};  // what a recorded op's backward will start from
};
using Op = std::function<ag::Value(OpInputs&)>;

struct OpShapes {
  std::vector<ag::Shape> x = {}, p = {};
  std::vector<size_t> wide_x = {};  // indices of the inputs that are wide whatever the type
};

// Uniform in [-1, 1), the same numbers on every platform.
inline std::vector<double> random_values(int64_t count, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<double> values(static_cast<size_t>(count));
  for (double& v : values) v = static_cast<double>(generator() >> 11) * 0x1p-52 - 1;
  return values;
}

inline ag::Tensor random_tensor(const ag::Shape& shape, uint64_t seed,
                                ag::DType type = ag::DType::f64) {
  ag::Tensor t = ag::Tensor::empty(shape, type);
  ag::kernels(t.device())
      .cast(t.view(), ag::Tensor::from_host<double>(shape, random_values(shape.numel(), seed)));
  return t;
}

class ThreadCount {
 public:
  explicit ThreadCount(int n) : before_(ag::threads()) { ag::set_threads(n); }
  ~ThreadCount() { ag::set_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

// Stands after the op. Its backward hands the cotangent to the op's output and, before the op runs,
// a gradient to each input, as a second consumer of that input would. The gradients are shared with
// the checker: whoever adds to them in place is found out.
struct SecondConsumer {
  static constexpr const char* kName = "second consumer";
  std::vector<ag::Tensor> gradients;  // undefined: none
  void backward(ag::Grads& g) const {
    g.pass(0, g.out());
    for (size_t i = 0; i < gradients.size(); ++i) {
      const int input = static_cast<int>(i) + 1;
      if (gradients[i].defined() && g.wants(input)) g.pass(input, gradients[i]);
    }
  }
};
constexpr size_t kMaxInputs = 4;

class GradCheck {
 public:
  static constexpr double kTolerance = 1e-7, kFloor = 1e-2;
  static constexpr double kStep = 0x1p-17;  // about cbrt(3 epsilon), and exact

  // Requires: at most kMaxInputs inputs x.
  GradCheck(Op op, const OpShapes& shapes) : op_(std::move(op)), shapes_(shapes) {
    uint64_t seed = 1;
    for (const ag::Shape& s : shapes.x) values_.push_back(random_tensor(s, ++seed));
    for (const ag::Shape& s : shapes.p) values_.push_back(random_tensor(s, ++seed));
    cotangent_ = random_tensor(forward(values_).shape(), ++seed);
  }

  // Every element, every subset of wanted inputs, first writer and second, one thread and four.
  testing::AssertionResult run_all() const {
    const std::vector<std::vector<double>> numeric = central_differences();
    for (const int threads : {1, 4}) {
      const ThreadCount scope(threads);
      for (const bool accumulate : {false, true}) {
        for (uint32_t wanted = 0; wanted < 1U << values_.size(); ++wanted) {
          const std::string fault = run(wanted, accumulate, numeric);
          if (!fault.empty()) {
            return testing::AssertionFailure()
                   << fault << "; wanted inputs (bits) " << wanted
                   << (accumulate ? ", accumulating, " : ", ") << threads << " threads";
          }
        }
      }
    }
    return testing::AssertionSuccess();
  }

  // One random unit direction through all inputs and parameters: two forwards at any size.
  testing::AssertionResult run_direction() const {
    std::vector<ag::Tensor> direction;
    double squares = 0, analytic = 0;
    for (const ag::Tensor& v : values_) {
      direction.push_back(random_tensor(v.shape(), 1000 + direction.size()));
      for (const double d : doubles(direction.back())) squares += d * d;
    }
    const auto moved = [&](double step) {
      std::vector<ag::Tensor> at;
      for (size_t i = 0; i < values_.size(); ++i) {
        std::vector<double> v = doubles(values_[i]), d = doubles(direction[i]);
        for (size_t e = 0; e < v.size(); ++e) v[e] += step * d[e] / std::sqrt(squares);
        at.push_back(ag::Tensor::from_host<double>(values_[i].shape(), v));
      }
      return at;
    };
    const double numeric = slope(forward(moved(kStep)), forward(moved(-kStep)));
    const Gradients got = gradients((1U << values_.size()) - 1, false);
    for (size_t i = 0; i < values_.size(); ++i) {
      const std::vector<double> d = doubles(direction[i]);
      for (size_t e = 0; e < d.size(); ++e) analytic += got.inputs[i][e] * d[e];
    }
    analytic /= std::sqrt(squares);
    if (std::abs(analytic - numeric) <= kTolerance * (std::abs(numeric) + kFloor))
      return testing::AssertionSuccess();
    return testing::AssertionFailure() << "slope " << analytic << ", numeric " << numeric;
  }

 private:
  struct Gradients {
    std::vector<std::vector<double>> inputs;  // less what the second consumer gave; empty: unwanted
    std::string fault;
  };

  bool is_param(size_t i) const { return i >= shapes_.x.size(); }

  // Parameters of which those in `wanted` are trainable.
  std::unique_ptr<ag::ParamStore> store(const std::vector<ag::Tensor>& at, uint32_t wanted) const {
    std::vector<ag::ParamStore::Declaration> declarations;
    for (size_t i = shapes_.x.size(); i < at.size(); ++i)
      declarations.push_back({std::to_string(i), at[i].shape(), (wanted >> i & 1) != 0});
    auto params = std::make_unique<ag::ParamStore>(declarations, ag::DType::f64);
    for (ag::Param& p : params->all()) params->load(p, at[std::stoul(p.name)]);
    return params;
  }

  OpInputs inputs(ag::Tape& tape, ag::ParamStore& params, const std::vector<ag::Tensor>& at,
                  uint32_t wanted) const {
    OpInputs in{tape, ag::DType::f64, {}, {}, cotangent_};
    for (size_t i = 0; i < at.size(); ++i) {
      if (is_param(i)) {
        in.p.push_back(&params.at(std::to_string(i)));
      } else {
        in.x.push_back((wanted >> i & 1) != 0 ? tape.leaf(at[i]) : tape.constant(at[i]));
      }
    }
    return in;
  }

  ag::Tensor forward(const std::vector<ag::Tensor>& at) const {
    ag::Tape off(ag::Tape::Mode::kOff);
    const auto params = store(at, 0);
    OpInputs in = inputs(off, *params, at, 0);
    return op_(in).data;
  }

  // (phi(above) - phi(below)) / 2 step; the difference of each element first, which cancels least.
  double slope(const ag::Tensor& above, const ag::Tensor& below) const {
    const std::vector<double> a = doubles(above), b = doubles(below), c = doubles(cotangent_);
    double sum = 0;
    for (size_t i = 0; i < c.size(); ++i) sum += c[i] * (a[i] - b[i]);
    return sum / (2 * kStep);
  }

  std::vector<std::vector<double>> central_differences() const {
    const ThreadCount one(1);
    std::vector<std::vector<double>> numeric;
    for (size_t i = 0; i < values_.size(); ++i) {
      const std::vector<double> centre = doubles(values_[i]);
      std::vector<ag::Tensor> at = values_;
      const auto moved = [&](size_t e, double step) {
        std::vector<double> v = centre;
        v[e] += step;
        at[i] = ag::Tensor::from_host<double>(values_[i].shape(), v);
        return forward(at);
      };
      std::vector<double>& gradient = numeric.emplace_back();
      for (size_t e = 0; e < centre.size(); ++e)
        gradient.push_back(slope(moved(e, kStep), moved(e, -kStep)));
    }
    return numeric;
  }

  Gradients gradients(uint32_t wanted, bool accumulate) const {
    const auto params = store(values_, wanted);
    ag::Tensor flat = params->make_gradient();
    if (accumulate) flat.copy_from(random_values(flat.numel(), 77).data());
    const std::vector<double> flat_before = doubles(flat);
    params->select_gradient(flat);

    ag::Tape tape;
    OpInputs in = inputs(tape, *params, values_, wanted);
    const std::vector<ag::Value> leaves = in.x;
    const ag::Value y = op_(in);
    Gradients result;
    if (wanted == 0) {
      if (y.wants_gradient() || tape.nodes() != 0) result.fault = "recorded, though none is wanted";
      return result;
    }
    std::vector<std::vector<double>> before{doubles(y.data), doubles(cotangent_)};
    for (const ag::Tensor& v : values_) before.push_back(doubles(v));
    SecondConsumer last;
    for (size_t i = 0; accumulate && i < leaves.size(); ++i)
      last.gradients.push_back(random_tensor(values_[i].shape(), 99 + i));
    std::array<ag::Value, kMaxInputs> users{};
    std::copy(leaves.begin(), leaves.end(), users.begin());
    const ag::Value output =
        tape.record(SecondConsumer(last), {y, users[0], users[1], users[2], users[3]}, y.data);
    tape.backward(output, cotangent_);

    std::vector<std::vector<double>> after{doubles(y.data), doubles(cotangent_)};
    for (const ag::Tensor& v : values_) after.push_back(doubles(v));
    for (const auto& p : in.p) after[2 + std::stoul(p->name)] = doubles(p->master);
    if (before != after) result.fault = "the backward changed its inputs, output or cotangent";
    for (size_t i = 0; i < last.gradients.size(); ++i) {
      if (doubles(last.gradients[i]) != random_values(values_[i].numel(), 99 + i))
        result.fault = "a shared gradient was added to in place";
    }
    collect(result, in, leaves, last, tape, flat_before, doubles(flat));
    return result;
  }

  void collect(Gradients& result, const OpInputs& in, const std::vector<ag::Value>& leaves,
               const SecondConsumer& last, const ag::Tape& tape, std::vector<double> flat_before,
               std::vector<double> flat) const {
    for (size_t i = 0; i < values_.size(); ++i) {
      std::vector<double>& g = result.inputs.emplace_back();
      if (!is_param(i)) {
        if (!leaves[i].wants_gradient()) continue;
        const ag::Tensor gradient = tape.gradient(leaves[i]);
        if (!gradient.defined()) continue;
        g = doubles(gradient);
        if (last.gradients.empty()) continue;
        const std::vector<double> given = doubles(last.gradients[i]);
        for (size_t e = 0; e < g.size(); ++e) g[e] -= given[e];
      } else if (const ag::Param& p = *in.p[i - leaves.size()]; p.trainable) {
        for (size_t e = 0; e < static_cast<size_t>(p.shape.numel()); ++e) {
          const size_t at = static_cast<size_t>(p.offset) + e;
          g.push_back(flat[at] - flat_before[at]);
          flat[at] = flat_before[at];
        }
      }
    }
    // What is left of the flat buffer belongs to nobody.
    if (flat != flat_before) result.fault = "wrote outside the gradients of the parameters";
  }

  std::string run(uint32_t wanted, bool accumulate,
                  const std::vector<std::vector<double>>& numeric) const {
    const Gradients got = gradients(wanted, accumulate);
    if (!got.fault.empty() || wanted == 0) return got.fault;
    for (size_t i = 0; i < values_.size(); ++i) {
      if ((wanted >> i & 1) == 0) continue;
      const double error = relative_distance(got.inputs[i], numeric[i], kFloor);
      if (!(error <= kTolerance))
        return "gradient of input " + std::to_string(i) + " is off by " + std::to_string(error);
    }
    return {};
  }

  Op op_;
  OpShapes shapes_;
  std::vector<ag::Tensor> values_;  // inputs, then parameters
  ag::Tensor cotangent_;
};

inline testing::AssertionResult check_grad(Op op, const OpShapes& shapes) {
  return GradCheck(std::move(op), shapes).run_all();
}

inline testing::AssertionResult check_grad_directional(Op op, const OpShapes& shapes) {
  return GradCheck(std::move(op), shapes).run_direction();
}

}  // namespace test_support
