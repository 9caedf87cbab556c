// A converted model in use: the latent cache gives what the full forward gives, and positions count
// only through the pairs that keep their rotation.
#include "tests/support/mla_golden.h"

namespace model {
namespace {

using test_support::flat;
using test_support::max_relative_distance;
using test_support::mla_golden;
using test_support::MlaVariant;

class MlaDecode : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    source_ = import_hf(test_support::fixture_path(GetParam()));
    norms_ = test_support::calibrated(source_, GetParam(), ag::DType::f64);
    const ag::Tensor ids = mla_golden(GetParam(), "input_ids");
    row_ = ids.slice(ids.cols(), {24});  // of the second sequence
  }
  Model converted(const ConversionOptions& options) const {
    return convert(source_, options, &norms_).model;
  }
  Model none() const {
    return converted({{RopeStrategy::none, 0, 0}, RopeScore::product, LatentMethod::joint, 5});
  }

  // Logits of all positions, fed to a cache in pieces of `sizes` tokens; before piece `jump_at` the
  // position is moved on by `jump`.
  ag::Tensor in_pieces(Llama& llama, const std::vector<int64_t>& sizes, Cache& cache,
                       size_t jump_at = 99, int64_t jump = 0) const {
    const int64_t vocab = llama.spec().config.vocab_size;
    ag::Tensor all = ag::Tensor::empty({row_.numel(), vocab}, llama.params().wide_dtype());
    int64_t done = 0;
    for (size_t piece = 0; piece < sizes.size(); ++piece) {
      if (piece == jump_at) cache.length += jump;
      const int64_t n = sizes[piece];
      const ag::Tensor part = llama.logits(row_.slice(done, {n}), 1, &cache);
      ag::dispatch_float(part.dtype(), [&]<class T>() {
        all.slice(done * vocab, {n, vocab}).copy_from(part.to_host<T>().data());
      });
      done += n;
    }
    EXPECT_EQ(done, row_.numel());
    return all;
  }

  Model source_;
  PairNorms norms_;
  ag::Tensor row_;
};

TEST_P(MlaDecode, CacheEqualsFullForward) {
  const std::vector<int64_t> one_by_one(24, 1);
  const std::vector<int64_t> chunks_after_decode = {7, 1, 1, 1, 6, 1, 5, 2};
  for (const MlaVariant& v : test_support::mla_variants(GetParam())) {
    SCOPED_TRACE(v.name);
    Llama llama(converted(v.options), {});
    const ag::Tensor full = llama.logits(row_, 1);
    for (const auto& sizes : {one_by_one, chunks_after_decode}) {
      Cache cache(source_.spec.config.num_hidden_layers);
      EXPECT_LE(max_relative_distance(in_pieces(llama, sizes, cache), full), 1e-4);
      // 4 bytes an element: only the rotary keys and the latents are stored.
      EXPECT_EQ(cache.bytes_per_token(),
                4 * source_.spec.config.num_hidden_layers * v.cache_elements);
    }
  }
}

TEST_P(MlaDecode, AConstantOffsetOfAllPositionsChangesNothing) {
  for (const MlaVariant& v : test_support::mla_variants(GetParam())) {
    SCOPED_TRACE(v.name);
    const Model model = converted(v.options);
    for (const ag::DType compute : {ag::DType::f32, ag::DType::f64}) {
      Llama llama(model, {.compute = compute});
      Cache shifted(source_.spec.config.num_hidden_layers);
      shifted.length = 37;  // nothing is stored: the first row just has position 37
      const double bound = compute == ag::DType::f32 ? 1e-4 : 1e-11;
      EXPECT_LE(max_relative_distance(llama.logits(row_, 1, &shifted), llama.logits(row_, 1)),
                bound);
    }
  }
}

TEST_P(MlaDecode, WithoutRotationPositionsDoNotCount) {
  Llama still(none(), {});
  Cache near(source_.spec.config.num_hidden_layers), far(source_.spec.config.num_hidden_layers);
  const std::vector<int64_t> sizes = {10, 14};
  EXPECT_EQ(in_pieces(still, sizes, far, 1, 11).to_host<float>(),
            in_pieces(still, sizes, near).to_host<float>());

  // The same gap is seen by a model that keeps one pair.
  Llama turning(converted({{RopeStrategy::high, 1, 0}, RopeScore::product, LatentMethod::joint, 5}),
                {});
  Cache a(source_.spec.config.num_hidden_layers), b(source_.spec.config.num_hidden_layers);
  EXPECT_GT(
      max_relative_distance(in_pieces(turning, sizes, a, 1, 11), in_pieces(turning, sizes, b)),
      1e-3);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, MlaDecode, test_support::mla_fixtures(),
                         test_support::fixture_test_name);

}  // namespace
}  // namespace model
