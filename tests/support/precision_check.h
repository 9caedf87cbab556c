// An op in f32 or bf16 against the same op in f64 on the same (rounded) numbers, output and every
// gradient, in the Frobenius norm. The bound is derived:
//   roundings * u(T) + 2 sqrt(length) u(f32),  u = half a unit in the last place,
// for values that are rounded to T `roundings` times on their way and are sums of `length` terms
// of random sign in f32.
#pragma once

#include <algorithm>

#include "tests/support/gradcheck.h"

namespace test_support {

inline double unit_roundoff(ag::DType type) { return type == ag::DType::bf16 ? 0x1p-8 : 0x1p-24; }

class PrecisionCheck {
 public:
  PrecisionCheck(Op op, const OpShapes& shapes, ag::DType type)
      : op_(std::move(op)), shapes_(shapes), type_(type) {}

  testing::AssertionResult run(double roundings, int64_t length) const {
    const double bound =
        roundings * unit_roundoff(type_) + 2 * std::sqrt(static_cast<double>(length)) * 0x1p-24;
    const Result low = evaluate(type_), exact = evaluate(ag::DType::f64);
    for (size_t i = 0; i < exact.values.size(); ++i) {
      const double error = relative_distance(low.values[i], exact.values[i]);
      if (!(error <= bound)) {
        return testing::AssertionFailure()
               << (i == 0 ? "output" : "gradient of input " + std::to_string(i - 1)) << " in "
               << ag::name_of(type_) << " is off by " << error << ", bound " << bound;
      }
    }
    return testing::AssertionSuccess();
  }

 private:
  struct Result {
    std::vector<std::vector<double>> values;  // output, then the gradients
  };

  bool is_wide(size_t i) const {
    return std::find(shapes_.wide_x.begin(), shapes_.wide_x.end(), i) != shapes_.wide_x.end();
  }

  // Random numbers that both types hold exactly, as `type`.
  ag::Tensor rounded(const ag::Shape& shape, uint64_t seed, ag::DType low, ag::DType type) const {
    const ag::Tensor t = random_tensor(shape, seed, low);
    ag::Tensor converted = ag::Tensor::empty(shape, type);
    ag::kernels(t.device()).cast(converted.view(), t);
    return converted;
  }

  Result evaluate(ag::DType type) const {
    const bool exact = type == ag::DType::f64;
    std::vector<ag::ParamStore::Declaration> declarations;
    for (size_t i = 0; i < shapes_.p.size(); ++i)
      declarations.push_back({std::to_string(i), shapes_.p[i], true});
    ag::ParamStore params(declarations, type);
    params.select_gradient(params.make_gradient());
    ag::Tape tape;
    OpInputs in{tape, type, {}, {}};
    uint64_t seed = 1;
    for (size_t i = 0; i < shapes_.x.size(); ++i) {
      const ag::DType low = is_wide(i) ? ag::DType::f32 : type_;
      in.x.push_back(tape.leaf(rounded(shapes_.x[i], ++seed, low, exact ? ag::DType::f64 : low)));
    }
    for (size_t i = 0; i < shapes_.p.size(); ++i) {
      in.p.push_back(&params.at(std::to_string(i)));
      params.load(*in.p[i], rounded(shapes_.p[i], ++seed, type_, params.wide_dtype()));
    }
    const std::vector<ag::Value> leaves = in.x;
    ag::Tape off(ag::Tape::Mode::kOff);
    OpInputs unrecorded{off, type, {}, in.p};
    for (const ag::Value& x : in.x) unrecorded.x.push_back(off.constant(x.data));
    const ag::Tensor output = op_(unrecorded).data;
    // bf16 holds it exactly, so that the cotangent is the same number in every type.
    in.cotangent = rounded(output.shape(), ++seed, ag::DType::bf16, output.dtype());
    const ag::Value y = op_(in);
    tape.backward(y, in.cotangent);
    Result result{{doubles(y.data)}};
    for (const ag::Value& leaf : leaves) result.values.push_back(doubles(tape.gradient(leaf)));
    for (const ag::Param* p : in.p) result.values.push_back(doubles(p->gradient()));
    return result;
  }

  Op op_;
  OpShapes shapes_;
  ag::DType type_;
};

inline testing::AssertionResult check_precision(Op op, const OpShapes& shapes, ag::DType type,
                                                double roundings, int64_t length) {
  return PrecisionCheck(std::move(op), shapes, type).run(roundings, length);
}

}  // namespace test_support
