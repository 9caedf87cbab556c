// Conversion against an independent float64 implementation (every variant of every golden model),
// and the properties that hold without one.
#include "model/convert.h"

#include <fmt/format.h>

#include "model/rope.h"
#include "model/svd.h"
#include "tests/support/mla_golden.h"
#include "tests/support/refusal.h"

namespace model {
namespace {

using core::ExitCode;
using test_support::doubles;
using test_support::expect_refusal;
using test_support::flat;
using test_support::max_relative_distance;
using test_support::mla_golden;
using test_support::MlaVariant;
using Matrix = std::vector<double>;

class Convert : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    source_ = import_hf(test_support::fixture_path(GetParam()));
    norms_ = test_support::calibrated(source_, GetParam(), ag::DType::f64);
    variants_ = test_support::mla_variants(GetParam());
    ids_ = mla_golden(GetParam(), "input_ids");
    ASSERT_GE(variants_.size(), 10u);
  }
  Conversion conversion(const MlaVariant& v) const { return convert(source_, v.options, &norms_); }
  Conversion conversion(RopeStrategy rope, int64_t r, LatentMethod method, int64_t c) const {
    return convert(source_, {{rope, r, 0}, RopeScore::product, method, c}, &norms_);
  }
  ag::Tensor want(const std::string& tensor) const { return mla_golden(GetParam(), tensor); }
  ag::Tensor logits(const Model& model, ag::DType compute) const {
    Llama llama(model, {.compute = compute});
    return llama.logits(flat(ids_), ids_.rows());
  }
  int64_t layers() const { return source_.spec.config.num_hidden_layers; }

  Model source_;
  PairNorms norms_;
  std::vector<MlaVariant> variants_;
  ag::Tensor ids_;
};

std::string attn(int64_t layer, const char* name) {
  return "layers." + std::to_string(layer) + ".attn." + name;
}

// [K_nope; V] of a layer straight from the source's weights: rows of kv head i, column c of it.
Matrix kv_matrix(const Model& source, const AttentionSpec& spec, int64_t layer) {
  const LlamaConfig& c = source.spec.config;
  const Matrix k = doubles(source.weights.at(attn(layer, "k.weight")));
  Matrix x;
  for (int64_t row = 0; row < c.num_key_value_heads * c.head_dim; ++row) {
    const auto& kept = spec.kept_pairs[static_cast<size_t>(row / c.head_dim)];
    const int64_t pair = row % c.head_dim % c.pairs();
    if (std::find(kept.begin(), kept.end(), pair) != kept.end()) continue;
    x.insert(x.end(), k.begin() + row * c.hidden_size, k.begin() + (row + 1) * c.hidden_size);
  }
  const Matrix v = doubles(source.weights.at(attn(layer, "v.weight")));
  x.insert(x.end(), v.begin(), v.end());
  return x;
}

Matrix product(const ag::Tensor& up, const ag::Tensor& down) {
  const Matrix a = doubles(up), b = doubles(down);
  const int64_t n = up.rows(), m = up.cols(), d = down.cols();
  Matrix out(static_cast<size_t>(n * d), 0);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < m; ++j)
      for (int64_t l = 0; l < d; ++l)
        out[static_cast<size_t>(i * d + l)] +=
            a[static_cast<size_t>(i * m + j)] * b[static_cast<size_t>(j * d + l)];
  return out;
}

// What the converted weights put in the place of kv_matrix().
Matrix reconstruction(const Model& m, int64_t layer) {
  const AttentionSpec& spec = m.spec.attention[static_cast<size_t>(layer)];
  const bool joint = spec.method == LatentMethod::joint;
  const auto at = [&](const char* name) { return m.weights.at(attn(layer, name)); };
  Matrix x;
  if (m.weights.contains(attn(layer, "k_up.weight")))
    x = product(at("k_up.weight"), at(joint ? "kv_down.weight" : "k_down.weight"));
  const Matrix v = product(at("v_up.weight"), at(joint ? "kv_down.weight" : "v_down.weight"));
  x.insert(x.end(), v.begin(), v.end());
  return x;
}

double norm(const Matrix& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum);
}

double distance(const Matrix& a, const Matrix& b) {
  EXPECT_EQ(a.size(), b.size());
  Matrix d = a;
  for (size_t i = 0; i < d.size(); ++i) d[i] -= b[i];
  return norm(d);
}

TEST_P(Convert, KeptPairs) {
  for (const MlaVariant& v : variants_) {
    SCOPED_TRACE(v.name);
    const ModelSpec spec = converted_spec(source_.spec, v.options, &norms_);
    const std::vector<int32_t> keep = want("keep." + v.name).to_host<int32_t>();
    std::vector<int32_t> kept;
    for (const AttentionSpec& layer : spec.attention)
      for (const auto& pairs : layer.kept_pairs) {
        EXPECT_EQ(static_cast<int64_t>(pairs.size()), v.options.rope.pairs_per_head);
        kept.insert(kept.end(), pairs.begin(), pairs.end());
      }
    EXPECT_EQ(kept, keep);
    EXPECT_EQ(spec.cache_elements_per_token(), layers() * v.cache_elements);
  }
}

TEST_P(Convert, WhatTheTruncationLost) {
  for (const MlaVariant& v : variants_) {
    SCOPED_TRACE(v.name);
    const Conversion c = conversion(v);
    const std::vector<double> golden_error = want("kv_error." + v.name).to_host<double>();
    ASSERT_EQ(static_cast<int64_t>(golden_error.size()), layers());
    for (int64_t l = 0; l < layers(); ++l) {
      const auto at = static_cast<size_t>(l);
      const Matrix x = kv_matrix(source_, c.model.spec.attention[at], l);
      EXPECT_NEAR(c.layers[at].norm, norm(x), 1e-12 * norm(x));
      EXPECT_NEAR(c.layers[at].error, golden_error[at], 1e-6 * norm(x));
      // The weights, rounded to float32, lose just that.
      EXPECT_NEAR(distance(reconstruction(c.model, l), x), golden_error[at], 1e-6 * norm(x));
    }
  }
}

TEST_P(Convert, LogitsInFloat32AndFloat64) {
  double worst32 = 0, worst64 = 0;
  for (const MlaVariant& v : variants_) {
    SCOPED_TRACE(v.name);
    const Model converted = conversion(v).model;
    const ag::Tensor golden_logits = want("logits." + v.name);
    const ag::Tensor f32 = logits(converted, ag::DType::f32).reshaped(golden_logits.shape());
    const ag::Tensor f64 = logits(converted, ag::DType::f64).reshaped(golden_logits.shape());
    EXPECT_LE(max_relative_distance(f32, golden_logits), 1e-4);
    // Weights are stored in float32, 6e-8 each: all that float64 arithmetic leaves.
    EXPECT_LE(max_relative_distance(f64, golden_logits), 2e-6);
    worst32 = std::max(worst32, max_relative_distance(f32, golden_logits));
    worst64 = std::max(worst64, max_relative_distance(f64, golden_logits));
    Llama llama(converted, {});
    EXPECT_NEAR(test_support::ShiftedIds(ids_).mean_loss(llama), v.loss, 1e-4 * v.loss);
  }
  RecordProperty("worst_float32", fmt::format("{}", worst32));
  RecordProperty("worst_float64", fmt::format("{}", worst64));
}

// The comparison above can tell variants apart: no two of them agree unless they keep the same.
TEST_P(Convert, AnotherVariantWouldNotPass) {
  for (const MlaVariant& v : variants_) {
    const ag::Tensor mine = logits(conversion(v).model, ag::DType::f32);
    for (const MlaVariant& other : variants_) {
      const bool same_sets = want("keep." + v.name).shape() == want("keep." + other.name).shape() &&
                             want("keep." + v.name).to_host<int32_t>() ==
                                 want("keep." + other.name).to_host<int32_t>();
      const bool same_latent =
          v.options.method == other.options.method &&
          v.options.latent_dims_per_kv_head == other.options.latent_dims_per_kv_head;
      if (same_sets && same_latent) continue;
      const ag::Tensor theirs = want("logits." + other.name);
      EXPECT_GT(max_relative_distance(mine.reshaped(theirs.shape()), theirs), 1e-3)
          << v.name << " against " << other.name;
    }
  }
}

TEST_P(Convert, FullRankAndFullRopeIsTheSource) {
  const int64_t pairs = source_.spec.config.pairs(), d = source_.spec.config.hidden_size;
  const int64_t values = source_.spec.config.num_key_value_heads * source_.spec.config.head_dim;
  const int64_t c = std::min(d, values) / source_.spec.config.num_key_value_heads;
  const Conversion full = conversion(RopeStrategy::full, pairs, LatentMethod::joint, c);
  for (const LayerReport& layer : full.layers) EXPECT_LE(layer.error, 1e-12 * layer.norm);
  const ag::Tensor original = want("logits_source");
  EXPECT_LE(max_relative_distance(logits(full.model, ag::DType::f32).reshaped(original.shape()),
                                  original),
            1e-5);
  // Without a latent, every strategy that keeps all pairs is the source to the bit.
  const std::vector<float> bits = logits(source_, ag::DType::f32).to_host<float>();
  for (const RopeStrategy all :
       {RopeStrategy::full, RopeStrategy::high, RopeStrategy::low, RopeStrategy::uniform,
        RopeStrategy::high_low, RopeStrategy::two_norm})
    EXPECT_EQ(logits(conversion(all, pairs, LatentMethod::none, 0).model, ag::DType::f32)
                  .to_host<float>(),
              bits)
        << to_string(all);
}

TEST_P(Convert, FullRankIsThePartialRopeModel) {
  const LlamaConfig& config = source_.spec.config;
  const ag::Tensor partial =
      logits(conversion(RopeStrategy::two_norm, 2, LatentMethod::none, 0).model, ag::DType::f64);
  const int64_t nope = config.num_key_value_heads * (config.head_dim - 4);
  const int64_t values = config.num_key_value_heads * config.head_dim;
  const int64_t joint = std::min(config.hidden_size, nope + values) / config.num_key_value_heads;
  EXPECT_LE(max_relative_distance(
                logits(conversion(RopeStrategy::two_norm, 2, LatentMethod::joint, joint).model,
                       ag::DType::f64),
                partial),
            2e-6);
  EXPECT_GT(max_relative_distance(partial, logits(source_, ag::DType::f64)), 1e-3);
}

TEST_P(Convert, TheLatentHoldsTheLeadingSingularValues) {
  for (const LatentMethod method : {LatentMethod::joint, LatentMethod::split}) {
    const Conversion c = conversion(RopeStrategy::high_low, 3, method, 3);
    for (int64_t l = 0; l < layers(); ++l) {
      const AttentionSpec& spec = c.model.spec.attention[static_cast<size_t>(l)];
      const Matrix x = kv_matrix(source_, spec, l);
      const int64_t d = source_.spec.config.hidden_size;
      const int64_t rows = static_cast<int64_t>(x.size()) / d;
      const int64_t nope = spec.nope_columns(source_.spec.config.head_dim);
      double dropped = 0;
      const auto drop = [&](int64_t first, int64_t n) {
        const Svd s = svd(Matrix(x.begin() + first * d, x.begin() + (first + n) * d), n, d);
        for (int64_t j = spec.latent_dims; j < s.k; ++j)
          dropped += s.sigma[static_cast<size_t>(j)] * s.sigma[static_cast<size_t>(j)];
      };
      if (method == LatentMethod::joint) {
        drop(0, rows);
      } else {
        drop(0, nope);
        drop(nope, rows - nope);
      }
      EXPECT_NEAR(distance(reconstruction(c.model, l), x), std::sqrt(dropped), 1e-6 * norm(x));
      EXPECT_GT(dropped, 1e-4 * norm(x) * norm(x)) << "something must be lost here";
    }
  }
}

TEST_P(Convert, DownProjectionsAreOrthonormal) {
  for (const MlaVariant& v : variants_) {
    const Model converted = conversion(v).model;
    for (const auto& [path, weight] : converted.weights) {
      if (path.find("_down.weight") == std::string::npos) continue;
      const Matrix w = doubles(weight);
      const int64_t n = weight.rows(), d = weight.cols();
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j) {
          double dot = 0;
          for (int64_t k = 0; k < d; ++k)
            dot += w[static_cast<size_t>(i * d + k)] * w[static_cast<size_t>(j * d + k)];
          // Rows of norm 1 whose entries are rounded by 2^-24 relative: 2 * 6e-8 at most.
          ASSERT_NEAR(dot, i == j ? 1 : 0, 2e-7) << v.name << " " << path << " " << i << " " << j;
        }
    }
  }
}

TEST_P(Convert, RotaryAndNopeColumnsPartitionTheKey) {
  const LlamaConfig& config = source_.spec.config;
  for (const MlaVariant& v : variants_) {
    const Model converted = conversion(v).model;
    for (int64_t l = 0; l < layers(); ++l) {
      const ag::Tensor k = source_.weights.at(attn(l, "k.weight"));
      const std::vector<float> w = k.to_host<float>();
      const auto row = [&](int64_t r) {
        return std::vector<float>(w.begin() + r * k.cols(), w.begin() + (r + 1) * k.cols());
      };
      std::vector<float> rotary;
      std::vector<int> seen(static_cast<size_t>(config.num_key_value_heads * config.head_dim), 0);
      int64_t begin = 0;
      for (const auto& kept : converted.spec.attention[static_cast<size_t>(l)].kept_pairs) {
        for (const int32_t c : rotary_columns(kept, config.head_dim)) {
          const std::vector<float> r = row(begin + c);
          rotary.insert(rotary.end(), r.begin(), r.end());
          ++seen[static_cast<size_t>(begin + c)];
        }
        for (const int32_t c : nope_columns(kept, config.head_dim))
          ++seen[static_cast<size_t>(begin + c)];
        begin += config.head_dim;
      }
      EXPECT_EQ(seen, std::vector<int>(seen.size(), 1)) << "not a permutation";
      const auto stored = converted.weights.find(attn(l, "k_rope.weight"));
      if (rotary.empty()) {
        EXPECT_EQ(stored, converted.weights.end());
      } else {
        ASSERT_NE(stored, converted.weights.end());
        EXPECT_EQ(stored->second.to_host<float>(), rotary) << v.name << " layer " << l;
      }
    }
  }
}

TEST_P(Convert, JointLosesNoMoreThanSplitOfTheSameCache) {
  for (const RopeStrategy rope : {RopeStrategy::high, RopeStrategy::two_norm}) {
    const Conversion joint = conversion(rope, 2, LatentMethod::joint, 4);
    const Conversion split = conversion(rope, 2, LatentMethod::split, 2);
    EXPECT_EQ(joint.model.spec.cache_elements_per_token(),
              split.model.spec.cache_elements_per_token());
    for (size_t l = 0; l < joint.layers.size(); ++l) {
      EXPECT_LT(joint.layers[l].error, split.layers[l].error);
      EXPECT_NEAR(joint.layers[l].norm, split.layers[l].norm, 1e-12 * joint.layers[l].norm);
    }
  }
}

TEST_P(Convert, WhatAttentionDoesNotTouchKeepsItsBits) {
  const Model converted = conversion(variants_[0]).model;
  int kept = 0;
  for (const auto& [path, weight] : source_.weights) {
    const bool replaced =
        path.find(".attn.k.") != std::string::npos || path.find(".attn.v.") != std::string::npos;
    EXPECT_EQ(converted.weights.contains(path), !replaced) << path;
    if (replaced) continue;
    EXPECT_EQ(converted.weights.at(path).to_host<float>(), weight.to_host<float>()) << path;
    ++kept;
  }
  EXPECT_GT(kept, 0);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, Convert, test_support::mla_fixtures(),
                         test_support::fixture_test_name);

TEST(ConvertRefuses, WhatDoesNotFit) {
  const Model source = import_hf(test_support::fixture_path("llama-gqa-tied"));
  const auto refused = [&](const ConversionOptions& options, const std::string& part) {
    expect_refusal(ExitCode::kBadConfig, part, [&] { convert(source, options, nullptr); });
  };
  const RopeChoice high{RopeStrategy::high, 2, 0}, full{RopeStrategy::full, 6, 0};
  const RopeScore product_score = RopeScore::product;
  // d = 48, 2 kv heads of 12: K_nope has 16 rows, V 24.
  refused({high, product_score, LatentMethod::joint, 21}, "expected 1 to 20");
  refused({high, product_score, LatentMethod::joint, 0}, "expected 1 to 20");
  refused({high, product_score, LatentMethod::split, 9}, "expected 1 to 8");
  refused({full, product_score, LatentMethod::joint, 13}, "expected 1 to 12");
  refused({full, product_score, LatentMethod::split, 4}, "joint or none");
  refused({{RopeStrategy::two_norm, 2, 0}, product_score, LatentMethod::joint, 4}, "calibration");
  const Model once = convert(source, {high, product_score, LatentMethod::joint, 4}, nullptr).model;
  expect_refusal(ExitCode::kBadConfig, "a converted one", [&] {
    convert(once, {high, product_score, LatentMethod::joint, 4}, nullptr);
  });
  expect_refusal(ExitCode::kBadConfig, "joint, split or none", [] { latent_method_from("both"); });
  for (const int64_t latent : {0, 41}) {
    ModelSpec target =
        converted_spec(source.spec, {high, product_score, LatentMethod::joint, 4}, nullptr);
    target.attention[0].latent_dims = latent;
    expect_refusal(ExitCode::kInternal, "convert: expected a latent of 1 to 40",
                   [&] { convert_to(source, target); });
  }
}

}  // namespace
}  // namespace model
