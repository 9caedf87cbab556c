#include "trainer/ranks/gradient_buckets.h"

#include <algorithm>

namespace trainer {

GradientBuckets::GradientBuckets(const ag::ParamStore& params) {
  std::vector<const ag::Param*> ordered;
  for (const ag::Param& p : params.all())
    if (p.trainable) ordered.push_back(&p);
  std::sort(ordered.begin(), ordered.end(),
            [](const ag::Param* a, const ag::Param* b) { return a->offset < b->offset; });
  const int64_t enough = kBytes / ag::size_of(params.wide_dtype());
  for (const ag::Param* p : ordered) {
    if (ranges_.empty() || ranges_.back().end - ranges_.back().begin >= enough) {
      ranges_.push_back({p->offset, p->offset});
      parameters_.push_back(0);
    }
    ranges_.back().end = p->offset + p->shape.numel();
    ++parameters_.back();
    bucket_of_.emplace(p, ranges_.size() - 1);
  }
  for (size_t i = 1; i < ranges_.size(); ++i) ranges_[i - 1].end = ranges_[i].begin;  // gaps too
  reset();
}

void GradientBuckets::reset() { waiting_ = parameters_; }

GradientRange GradientBuckets::complete(const ag::Param& param) {
  const size_t bucket = bucket_of_.at(&param);
  return --waiting_[bucket] == 0 ? ranges_[bucket] : GradientRange{};
}

}  // namespace trainer
