// Attention kernels of every instruction set against plain loops in double, and the gradient
// against central differences of the forward.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "autograd/kernels/kernels.h"
#include "tests/support/reference.h"

namespace ag {
namespace {

using testing::AttentionValues;

// rope_width per kv head, cycled; `shared` lets all rotary keys begin at column 0.
struct Case {
  int64_t batch, queries, keys, heads, kv_heads, head_dim, value_dim;
  std::vector<int64_t> rope_width;
  bool shared = false;
};

void PrintTo(const Case& c, std::ostream* stream) {
  *stream << "B " << c.batch << " Tq " << c.queries << " Tk " << c.keys << " H " << c.heads << " G "
          << c.kv_heads << " D " << c.head_dim << " Dv " << c.value_dim << " rope "
          << ::testing::PrintToString(c.rope_width) << (c.shared ? " shared" : "");
}

// The usual scale unless one is given.
AttentionShape shape_of(const Case& c, double scale = NAN) {
  AttentionShape s{c.batch,     c.queries, c.keys, c.heads, c.kv_heads, c.head_dim,
                   c.value_dim, 0,         {},     {},      {}};
  s.scale = std::isnan(scale) ? 1.0 / std::sqrt(static_cast<double>(c.head_dim)) : scale;
  int64_t rope = 0, nope = 0;
  for (int64_t g = 0; g < c.kv_heads; ++g) {
    const int64_t width = c.rope_width[static_cast<size_t>(g) % c.rope_width.size()];
    s.rope_begin.push_back(c.shared ? 0 : rope);
    s.rope_width.push_back(width);
    s.nope_begin.push_back(nope);
    rope += width;
    nope += c.head_dim - width;
  }
  return s;
}

int64_t columns(const std::vector<int64_t>& begin, const std::vector<int64_t>& width) {
  int64_t end = 0;
  for (size_t g = 0; g < begin.size(); ++g) end = std::max(end, begin[g] + width[g]);
  return end;
}

// A matrix with three more elements per row than columns; the kernels must not touch those.
template <class T>
struct Matrix {
  int64_t rows, cols, ld;
  std::vector<T> data;
  static constexpr float kUntouched = 77;

  Matrix(int64_t r, int64_t c, double value = std::numeric_limits<double>::quiet_NaN())
      : rows(r), cols(c), ld(c + 3), data(static_cast<size_t>(r * ld), T(kUntouched)) {
    for (int64_t i = 0; i < numel(); ++i) at(i) = T(static_cast<compute_t<T>>(value));
  }
  Matrix(int64_t r, int64_t c, const std::vector<double>& values) : Matrix(r, c) {
    for (int64_t i = 0; i < numel(); ++i) {
      at(i) = T(static_cast<compute_t<T>>(values[static_cast<size_t>(i)]));
    }
  }
  int64_t numel() const { return rows * cols; }
  T& at(int64_t i) { return data[static_cast<size_t>(i / cols * ld + i % cols)]; }
  View view(bool accumulate = false) {
    return {cols == 0 ? nullptr : data.data(), rows, cols, ld, dtype_of<T>(), accumulate};
  }
  bool padding_untouched() const {
    for (int64_t i = 0; i < rows * ld; ++i) {
      if (i % ld >= cols && static_cast<float>(data[static_cast<size_t>(i)]) != kUntouched)
        return false;
    }
    return true;
  }
  std::vector<double> values() {
    std::vector<double> v;
    for (int64_t i = 0; i < numel(); ++i) v.push_back(static_cast<double>(at(i)));
    return v;
  }
};

template <class T>
Matrix<T> random_matrix(int64_t rows, int64_t cols, unsigned seed, double size = 1) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<double> uniform(-size, size);
  std::vector<double> values(static_cast<size_t>(rows * cols));
  for (double& value : values) value = uniform(engine);
  return {rows, cols, values};
}

enum Wanted : unsigned { kDq = 1, kDkRope = 2, kDkNope = 4, kDv = 8, kAll = 15 };

// Inputs of a case in T, and the two kernels on them.
template <class T>
struct Problem {
  AttentionShape s;
  Matrix<T> q, k_rope, k_nope, v, dout;
  AttentionValues reference, reference_gradients;
  AttentionValues magnitudes, gradient_magnitudes;  // sums of |P v|, |P dout|, |dS k|, |dS q|

  explicit Problem(const Case& c, double size = 1, double scale = NAN)
      : s(shape_of(c, scale)),
        q(random_matrix<T>(s.batch * s.queries, s.heads * s.head_dim, 1, size)),
        k_rope(random_matrix<T>(s.batch * s.keys, columns(s.rope_begin, s.rope_width), 2, size)),
        k_nope(random_matrix<T>(s.batch * s.keys, nope_columns(), 3, size)),
        v(random_matrix<T>(s.batch * s.keys, s.kv_heads * s.value_dim, 4)),
        dout(random_matrix<T>(s.batch * s.queries, s.heads * s.value_dim, 5)) {
    reference = {q.values(), k_rope.values(), k_nope.values(), v.values(), {},
                 {},         k_rope.cols,     k_nope.cols};
    reference_attention(reference, s);
    AttentionValues given = reference;
    given.out = Matrix<T>(dout.rows, dout.cols, reference.out).values();
    reference_gradients = reference_attention_backward(given, dout.values(), s);
    magnitudes = reference;
    reference_attention(magnitudes, s, std::fabs);
    gradient_magnitudes = reference_attention_backward(given, dout.values(), s, std::fabs);
  }

  int64_t nope_columns() const {
    std::vector<int64_t> width;
    for (int64_t w : s.rope_width) width.push_back(s.head_dim - w);
    return columns(s.nope_begin, width);
  }

  struct Output {
    Matrix<T> out;
    Matrix<compute_t<T>> lse;
  };
  Output forward(const Kernels& kernels, bool accumulate = false) {
    const double start = accumulate ? 0.5 : std::numeric_limits<double>::quiet_NaN();
    Output y{{dout.rows, dout.cols, start}, {s.batch * s.heads, s.queries, start}};
    kernels.attention_forward(y.out.view(accumulate), y.lse.view(accumulate), q.view(),
                              k_rope.view(), k_nope.view(), v.view(), s);
    return y;
  }

  struct Gradients {
    Matrix<T> q, k_rope, k_nope, v;
  };
  // From the reference's out (rounded to T) and lse.
  Gradients backward(const Kernels& kernels, unsigned wanted = kAll, bool accumulate = false) {
    const double start = accumulate ? 0.5 : std::numeric_limits<double>::quiet_NaN();
    Gradients g{{q.rows, q.cols, start},
                {k_rope.rows, k_rope.cols, start},
                {k_nope.rows, k_nope.cols, start},
                {v.rows, v.cols, start}};
    Matrix<T> out(dout.rows, dout.cols, reference.out);
    Matrix<compute_t<T>> lse(s.batch * s.heads, s.queries, reference.lse);
    const auto view = [&](Matrix<T>& m, Wanted bit) {
      return (wanted & bit) != 0 ? m.view(accumulate) : View{};
    };
    kernels.attention_backward(view(g.q, kDq), view(g.k_rope, kDkRope), view(g.k_nope, kDkNope),
                               view(g.v, kDv), dout.view(), q.view(), k_rope.view(), k_nope.view(),
                               v.view(), out.view(), lse.view(), s);
    return g;
  }

  // Three chained sums (score, softmax, product) of at most `length` terms and the exponential,
  // each with a rounding error of eps sqrt(length) of its magnitude; scores of magnitude m turn an
  // error of theirs into one m times as large. f64 has to stay below 1e-12 at every length here.
  double tolerance(double magnitude = 1) const {
    if (std::is_same_v<T, double>) return 1e-12 * magnitude;
    const int64_t group = s.heads / s.kv_heads;
    const auto length =
        static_cast<double>(std::max({s.head_dim, s.value_dim, s.keys, s.queries * group}));
    return 4 * 1.2e-7 * std::sqrt(length) * magnitude;
  }
};

// |got - (start + expected)| <= rounding of the result to T + tolerance * largest |expected|
// + terms_rounding * magnitude, the sum of the absolute values of the terms.
template <class T>
void expect_close(Matrix<T>& got, const std::vector<double>& expected, double tolerance,
                  double start, const std::string& what, double terms_rounding = 0,
                  const std::vector<double>& magnitude = {}) {
  const double rounding = std::is_same_v<T, bf16> ? 1.0 / 256 : 0;  // 8 significant bits
  double largest = std::abs(start);
  for (double e : expected) largest = std::isfinite(e) ? std::max(largest, std::abs(e)) : largest;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double want = start + expected[i];
    const auto have = static_cast<double>(got.at(static_cast<int64_t>(i)));
    if (have == want) continue;
    // What the terms moved is rounded with the result.
    const double moved = magnitude.empty() ? 0 : terms_rounding * (1 + rounding) * magnitude[i];
    ASSERT_LE(std::abs(have - want),
              rounding * std::abs(want) * 1.001 + tolerance * std::max(largest, 1e-30) + moved)
        << what << " element " << i << " is " << have << ", expected " << want;
  }
  EXPECT_TRUE(got.padding_untouched()) << what;
}

// On tiles the probabilities P and their gradients dS are rounded to bf16 (8 significant bits, half
// a unit in the last place: 2^-8 of each) before they are multiplied: a sum of such products moves
// by at most 2^-8 of the sum of their absolute values.
template <class T>
double rounding_of_terms(Isa isa) {
  return isa == Isa::amx && std::is_same_v<T, bf16> ? 1.0 / 256 : 0;
}

template <class T>
void check_forward(Isa isa, Problem<T>& p, bool accumulate, double tolerance) {
  const double start = accumulate ? 0.5 : 0;
  auto y = p.forward(cpu_kernels(isa), accumulate);
  expect_close(y.out, p.reference.out, tolerance, start, "out", rounding_of_terms<T>(isa),
               p.magnitudes.out);
  expect_close(y.lse, p.reference.lse, tolerance, start, "lse");
}

template <class T>
void check_backward(Isa isa, Problem<T>& p, unsigned wanted, bool accumulate, double tolerance) {
  SCOPED_TRACE("wanted " + std::to_string(wanted) + (accumulate ? " +=" : " ="));
  const double start = accumulate ? 0.5 : 0, terms = rounding_of_terms<T>(isa);
  const AttentionValues &expected = p.reference_gradients, &size = p.gradient_magnitudes;
  auto g = p.backward(cpu_kernels(isa), wanted, accumulate);
  const auto close = [&](Wanted bit, auto& got, const auto& want, const auto& sum, auto name) {
    if (wanted & bit) expect_close(got, want, tolerance, start, name, terms, sum);
  };
  close(kDq, g.q, expected.q, size.q, "dq");
  close(kDkRope, g.k_rope, expected.k_rope, size.k_rope, "dk_rope");
  close(kDkNope, g.k_nope, expected.k_nope, size.k_nope, "dk_nope");
  close(kDv, g.v, expected.v, size.v, "dv");
}

std::vector<Isa> levels() {
  std::vector<Isa> all;
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::amx}) {
    if (isa <= active_isa()) all.push_back(isa);
  }
  return all;
}

template <class T>
void check(const Case& c) {
  Problem<T> p(c);
  for (Isa isa : levels()) {
    SCOPED_TRACE(std::string(name_of(isa)) + " " + std::string(name_of(dtype_of<T>())));
    for (bool accumulate : {false, true}) {
      check_forward(isa, p, accumulate, p.tolerance());
      check_backward(isa, p, kAll, accumulate, p.tolerance());
    }
  }
}

class AttentionShapes : public ::testing::TestWithParam<Case> {};

TEST_P(AttentionShapes, MatchPlainLoops) {
  check<double>(GetParam());
  check<float>(GetParam());
  check<bf16>(GetParam());
}

// batch, queries, keys, heads, kv_heads, head_dim, value_dim, rope widths, shared
INSTANTIATE_TEST_SUITE_P(
    , AttentionShapes,
    ::testing::Values(Case{1, 1, 1, 1, 1, 1, 1, {1}}, Case{2, 2, 2, 1, 1, 3, 2, {3}},
                      Case{1, 3, 3, 2, 1, 17, 5, {17}}, Case{2, 17, 17, 3, 3, 8, 8, {8}},
                      Case{1, 64, 64, 2, 2, 64, 64, {64}}, Case{1, 65, 65, 2, 1, 65, 64, {65}},
                      Case{1, 130, 130, 2, 2, 16, 33, {16}},        // three tiles, the last of two
                      Case{2, 70, 70, 9, 3, 64, 64, {64}},          // grouped queries
                      Case{2, 33, 33, 9, 3, 64, 64, {8}},           // MLA split
                      Case{2, 65, 65, 4, 4, 24, 16, {8}, true},     // one rotary key for all heads
                      Case{1, 66, 66, 8, 4, 12, 7, {0, 12, 3, 4}},  // widths that differ
                      Case{1, 20, 20, 4, 2, 10, 6, {4, 6}, true},   // shared and of two widths
                      Case{1, 5, 5, 2, 2, 6, 6, {0}},               // no rotary part at all
                      Case{3, 1, 130, 9, 3, 16, 16, {4}},           // decode
                      Case{1, 17, 65, 2, 1, 8, 8, {8}}, Case{2, 3, 64, 2, 2, 8, 130, {2}},
                      Case{1, 70, 3, 2, 1, 8, 8, {4}},         // 67 queries see no key
                      Case{1, 33, 97, 2, 2, 33, 31, {32}},     // a part of one column
                      Case{1, 257, 257, 2, 1, 40, 96, {8}},    // queries in two sets, keys in three
                      Case{2, 31, 190, 6, 3, 128, 70, {100}},  // blocks of 128 begin unaligned
                      Case{1, 600, 600, 1, 1, 8, 8, {3}},      // spans of queries
                      Case{2, 290, 300, 2, 2, 16, 16, {4}, true}));  // sets and shared columns

template <class T>
void check_subsets(const Case& c) {
  Problem<T> p(c);
  for (Isa isa : levels()) {
    SCOPED_TRACE(name_of(isa));
    for (unsigned wanted = 0; wanted <= kAll; ++wanted) {
      check_backward(isa, p, wanted, false, p.tolerance());
    }
  }
}

TEST(Attention, EverySubsetOfGradients) {
  check_subsets<double>(Case{1, 66, 66, 4, 2, 6, 5, {2}});
  check_subsets<bf16>(Case{1, 66, 66, 4, 2, 6, 5, {2}});
  check_subsets<bf16>(Case{1, 66, 66, 4, 2, 6, 5, {2}, true});
  check_subsets<bf16>(Case{1, 260, 260, 2, 1, 6, 5, {2}});
}

// A scale that is zero or negative reverses the order of the scores.
TEST(Attention, AnyScale) {
  for (double scale : {0.0, -0.7}) {
    Problem<bf16> p(Case{1, 40, 40, 2, 1, 8, 8, {4}}, 1, scale);
    for (Isa isa : levels()) {
      SCOPED_TRACE(std::string(name_of(isa)) + " scale " + std::to_string(scale));
      check_forward(isa, p, false, p.tolerance());
      check_backward(isa, p, kAll, false, p.tolerance());
    }
  }
}

TEST(Attention, LseIsOptional) {
  Problem<bf16> p(Case{1, 40, 40, 2, 1, 8, 8, {4}});
  for (Isa isa : levels()) {
    auto expected = p.forward(cpu_kernels(isa));
    Matrix<bf16> out(p.dout.rows, p.dout.cols);
    cpu_kernels(isa).attention_forward(out.view(), View{}, p.q.view(), p.k_rope.view(),
                                       p.k_nope.view(), p.v.view(), p.s);
    EXPECT_EQ(out.values(), expected.out.values()) << name_of(isa);
  }
}

// sqrt(sum (a - b)^2 / sum b^2).
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

// Forward and backward as in training, against double from the same bf16 inputs. The relative error
// of a value rounded to bf16 is 1.66e-3 in the mean square (mantissas spread evenly in their
// logarithm). Results are rounded, and so are the terms they are sums of on tiles, whose errors are
// independent: sqrt(2) of it. The backward also starts from an `out` that was rounded like this:
// what rounding alone does to the gradients is computed in double. 1.1 for chance.
void check_mean_error(const Case& c, double size) {
  constexpr double kRounding = 1.66e-3;
  Problem<bf16> p(c, size);
  const AttentionValues exact = reference_attention_backward(p.reference, p.dout.values(), p.s);
  for (Isa isa : levels()) {
    SCOPED_TRACE(std::string(name_of(isa)) + " size " + std::to_string(size));
    auto y = p.forward(cpu_kernels(isa));
    Problem<bf16> given = p;
    given.reference.out = y.out.values();
    given.reference.lse = y.lse.values();
    auto g = given.backward(cpu_kernels(isa));
    const auto check = [](const std::vector<double>& got, const std::vector<double>& want,
                          const std::vector<double>& from_rounded, const char* what) {
      const double limit = 1.1 * std::sqrt(2) * std::hypot(kRounding, distance(from_rounded, want));
      EXPECT_LE(distance(got, want), limit) << what;
    };
    const AttentionValues& rounded = p.reference_gradients;
    check(y.out.values(), p.reference.out, p.reference.out, "out");
    check(g.q.values(), exact.q, rounded.q, "dq");
    check(g.k_rope.values(), exact.k_rope, rounded.k_rope, "dk_rope");
    check(g.k_nope.values(), exact.k_nope, rounded.k_nope, "dk_nope");
    check(g.v.values(), exact.v, rounded.v, "dv");
  }
}

TEST(Attention, MeanErrorOfBfloat16) {
  const Case c{1, 330, 330, 3, 1, 64, 64, {8}};
  check_mean_error(c, 1.7);  // scores of variance 1
  check_mean_error(c, 5);    // a peaked softmax: the maximum moves, some probabilities are near 1
}

// exp(score) would overflow, the running maximum changes in later tiles, most probabilities are 0.
TEST(Attention, LargeScores) {
  const Case c{1, 200, 200, 2, 1, 16, 8, {8}};
  const double size = 20, magnitude = size * size * 4;  // |score| <= size^2 sqrt(head_dim)
  Problem<double> d(c, size);
  Problem<float> f(c, size);
  for (Isa isa : levels()) {
    SCOPED_TRACE(name_of(isa));
    check_forward(isa, d, false, d.tolerance(magnitude));
    check_backward(isa, d, kAll, false, d.tolerance(magnitude));
    check_forward(isa, f, false, f.tolerance(magnitude));
    check_backward(isa, f, kAll, false, f.tolerance(magnitude));
  }
}

template <class T>
bool same_bits(const Matrix<T>& a, const Matrix<T>& b) {
  return std::memcmp(a.data.data(), b.data.data(), a.data.size() * sizeof(T)) == 0;
}

template <class T>
void check_threads(const Case& c) {
  Problem<T> p(c);
  const int before = threads();
  for (Isa isa : levels()) {
    SCOPED_TRACE(name_of(isa));
    set_threads(1);
    const auto y = p.forward(cpu_kernels(isa));
    const auto g = p.backward(cpu_kernels(isa));
    for (int count : {2, 4}) {
      set_threads(count);
      const auto y2 = p.forward(cpu_kernels(isa));
      const auto g2 = p.backward(cpu_kernels(isa));
      EXPECT_TRUE(same_bits(y.out, y2.out) && same_bits(y.lse, y2.lse)) << count;
      EXPECT_TRUE(same_bits(g.q, g2.q) && same_bits(g.k_rope, g2.k_rope)) << count;
      EXPECT_TRUE(same_bits(g.k_nope, g2.k_nope) && same_bits(g.v, g2.v)) << count;
    }
  }
  set_threads(before);
}

TEST(Attention, BitsDoNotDependOnThreads) {
  const Case shared{2, 100, 100, 8, 4, 24, 16, {8}, true};
  check_threads<float>(shared);
  check_threads<bf16>(shared);
  check_threads<bf16>(Case{1, 530, 530, 3, 1, 16, 16, {4}});  // few heads: queries are shared out
  check_threads<bf16>(Case{4, 70, 70, 9, 3, 64, 64, {64}});
  check_threads<double>(Case{1, 70, 90, 9, 3, 16, 16, {4}});
}

// Independent of the reference: sum(dout * out) of the forward kernel, moved by +-step.
void check_differences(const Kernels& kernels, Problem<double>& p, Matrix<double>& input,
                       Matrix<double>& gradient) {
  constexpr double kStep = 1e-5;
  const auto loss = [&] {
    auto y = p.forward(kernels);
    double sum = 0;
    for (int64_t i = 0; i < y.out.numel(); ++i) sum += y.out.at(i) * p.dout.at(i);
    return sum;
  };
  for (int64_t i = 0; i < input.numel(); ++i) {
    const double value = input.at(i);
    input.at(i) = value + kStep;
    const double above = loss();
    input.at(i) = value - kStep;
    const double below = loss();
    input.at(i) = value;
    // Truncation is kStep^2 f''' / 6, cancellation about eps |loss| / kStep: both below 1e-9.
    ASSERT_NEAR((above - below) / (2 * kStep), gradient.at(i), 1e-9) << "element " << i;
  }
}

TEST(Attention, GradientIsTheSlopeOfTheForward) {
  const int before = threads();
  set_threads(1);  // hundreds of calls, each too small to share
  for (bool shared : {false, true}) {
    Problem<double> p(Case{1, 4, 6, 4, 2, 5, 3, {2}, shared});
    for (Isa isa : levels()) {
      SCOPED_TRACE(name_of(isa));
      auto g = p.backward(cpu_kernels(isa));
      check_differences(cpu_kernels(isa), p, p.q, g.q);
      check_differences(cpu_kernels(isa), p, p.k_rope, g.k_rope);
      check_differences(cpu_kernels(isa), p, p.k_nope, g.k_nope);
      check_differences(cpu_kernels(isa), p, p.v, g.v);
    }
  }
  set_threads(before);
}

}  // namespace
}  // namespace ag
