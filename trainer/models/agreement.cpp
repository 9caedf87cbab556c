#include "trainer/models/agreement.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "trainer/models/model_folder.h"

namespace trainer {
namespace {

double log_sum_exp(const float* x, int64_t n) {
  const auto largest = static_cast<double>(*std::max_element(x, x + n));
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - largest);
  return largest + std::log(sum);
}

std::string type_and_shape(const ag::Tensor& t) {
  return std::string(ag::name_of(t.dtype())) + " " + ag::to_string(t.shape());
}

std::string difference_of(const ag::Tensor& a, const ag::Tensor& b) {
  if (a.dtype() != b.dtype() || !(a.shape() == b.shape()))
    return type_and_shape(a) + " in A, " + type_and_shape(b) + " in B";
  const auto bytes = [](const ag::Tensor& t) {
    std::vector<unsigned char> raw(static_cast<size_t>(t.bytes()));
    t.copy_to(raw.data());
    return raw;
  };
  const std::vector<unsigned char> x = bytes(a), y = bytes(b);
  const auto size = static_cast<size_t>(ag::size_of(a.dtype()));
  int64_t different = 0;
  for (size_t i = 0; i < x.size(); i += size)
    if (std::memcmp(x.data() + i, y.data() + i, size) != 0) ++different;
  if (different == 0) return {};
  return std::to_string(different) + " of " + std::to_string(a.numel()) + " elements differ";
}

}  // namespace

void Agreement::add(std::span<const float> a, std::span<const float> b,
                    std::span<const int32_t> ids, int64_t rows) {
  const auto length = static_cast<int64_t>(ids.size());
  const int64_t vocab = static_cast<int64_t>(a.size()) / rows;
  for (int64_t t = 0; t < rows; ++t)
    add_row(a.data() + t * vocab, b.data() + t * vocab, vocab,
            t + 1 < length ? ids.data() + t + 1 : nullptr);
}

void Agreement::add_row(const float* a, const float* b, int64_t vocab, const int32_t* target) {
  const double z_a = log_sum_exp(a, vocab), z_b = log_sum_exp(b, vocab);
  double kl = 0;
  for (int64_t v = 0; v < vocab; ++v) {
    const auto x = static_cast<double>(a[v]), y = static_cast<double>(b[v]);
    const double difference = std::abs(x - y);
    difference_ += difference;
    largest_logit_ = std::max(largest_logit_, std::abs(x));
    // Not std::max, which would let a NaN pass unseen.
    if (!(difference <= max_difference_)) max_difference_ = difference;
    kl += std::exp(x - z_a) * ((x - z_a) - (y - z_b));
  }
  kl_ += kl;
  elements_ += vocab;
  ++positions_;
  if (std::max_element(a, a + vocab) - a == std::max_element(b, b + vocab) - b) ++same_top1_;
  if (target == nullptr) return;
  ++targets_;
  nll_a_ += z_a - static_cast<double>(a[*target]);
  nll_b_ += z_b - static_cast<double>(b[*target]);
}

std::vector<TensorDifference> compare_bits(const model::Model& a, const model::Model& b) {
  std::vector<TensorDifference> list;
  for (const auto& [path, tensor] : a.weights) {
    const auto other = b.weights.find(path);
    const std::string difference =
        other == b.weights.end() ? "only in A" : difference_of(tensor, other->second);
    if (!difference.empty()) list.push_back({path, difference});
  }
  for (const auto& [path, tensor] : b.weights)
    if (!a.weights.contains(path)) list.push_back({path, "only in B"});
  if (kept_pairs_mask(a.spec) != kept_pairs_mask(b.spec))
    list.push_back({"kept_pairs", "other pairs keep their rotation"});
  return list;
}

}  // namespace trainer
