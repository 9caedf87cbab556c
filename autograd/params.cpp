#include "autograd/params.h"

#include <algorithm>

#include "autograd/kernels/kernels.h"
#include "core/trace.h"

namespace ag {
namespace {

constexpr int64_t kAlignment = 64;  // elements: no cache line belongs to two parameters

int64_t aligned(int64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

bool is_vector(const Param& param) { return param.shape.rank() == 1; }

Tensor slice_of(const Tensor& flat, const ElementRange& range) {
  return flat.slice(range.begin, {range.size()});
}

ElementRange shifted(const ElementRange& range, int64_t by) {
  return {range.begin + by, range.end + by};
}

}  // namespace

Tensor Param::gradient() const {
  CHECK_ARGUMENT("param", trainable && store->gradient_.defined(), "a gradient buffer for " + name,
                 trainable ? "none selected" : "a frozen parameter");
  return store->gradient_.slice(offset, shape);
}

ParamStore::ParamStore(const std::vector<Declaration>& declarations, DType compute,
                       const Share& share)
    : compute_(compute), share_(share) {
  for (const bool trainable : {true, false}) {
    for (const Declaration& d : declarations) {
      if (d.trainable != trainable) continue;
      Param& p = params_.emplace_back();
      p.name = d.name;
      p.shape = d.shape;
      p.trainable = trainable;
      p.offset = numel_;
      p.store = this;
      numel_ += aligned(d.shape.numel());
      CHECK_ARGUMENT("param", by_name_.emplace(d.name, &p).second, "unique names", d.name);
    }
    if (trainable) trainable_numel_ = numel_;
  }
  place_params();
}

void ParamStore::place_params() {
  if (compute_ == DType::bf16) working_ = Tensor::zeros({numel_}, DType::bf16);
  if (masters_are_dealt()) return place_dealt_params();
  master_ = Tensor::zeros({numel_}, wide_dtype());
  for (Param& p : params_) {
    p.master = master_.slice(p.offset, p.shape);
    p.kept = master_.slice(p.offset, {p.shape.numel()});
    p.working = working_.defined() && !is_vector(p) ? working_.slice(p.offset, p.shape) : p.master;
  }
}

// master_: the own trainable elements, then the own frozen ones; ascending, like the parameters.
void ParamStore::place_dealt_params() {
  const int64_t frozen = range_of(numel_ - trainable_numel_, share_).size();
  master_ = Tensor::zeros({own_range().size() + frozen}, wide_dtype());
  vectors_ = Tensor::zeros({vector_elements_before(numel_)}, wide_dtype());
  for (Param& p : params_) {
    ElementRange kept = shifted(part_of(p, share_.index), p.offset);
    if (kept.size() == 0)
      kept = {};
    else if (p.trainable)
      kept = shifted(kept, -own_range().begin);
    else
      kept = shifted(kept, own_range().size() - trainable_numel_ -
                               range_of(numel_ - trainable_numel_, share_).begin);
    p.kept = slice_of(master_, kept);
    p.working = is_vector(p) ? vectors_.slice(vector_elements_before(p.offset), p.shape)
                             : working_.slice(p.offset, p.shape);
  }
}

ElementRange ParamStore::part_of(const Param& param, int64_t index) const {
  const Share share{index, share_.count};
  const ElementRange region =
      param.trainable ? range_of(trainable_numel_, share)
                      : shifted(range_of(numel_ - trainable_numel_, share), trainable_numel_);
  const ElementRange all{param.offset, param.offset + param.shape.numel()};
  return shifted(intersection(region, all), -param.offset);
}

int64_t ParamStore::vector_elements_before(int64_t flat) const {
  int64_t count = 0;
  for (const Param& p : params_)
    if (is_vector(p)) count += std::clamp<int64_t>(flat - p.offset, 0, aligned(p.shape.numel()));
  return count;
}

Param* ParamStore::find(const std::string& name) {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

Param& ParamStore::at(const std::string& name) {
  Param* p = find(name);
  CHECK_ARGUMENT("param", p != nullptr, "a parameter named " + name, "none");
  return *p;
}

void ParamStore::load(Param& param, const Tensor& values) {
  CHECK_SHAPE("param", values, param.shape);
  const Kernels& k = kernels(master_.device());
  if (masters_are_dealt()) {
    const ElementRange own = part_of(param, share_.index);
    k.cast(param.kept.view(), slice_of(values, own));
    k.cast(param.working.view(), values);
    return;
  }
  k.cast(param.master.view(), values);
  if (compute_ == DType::bf16 && !is_vector(param)) k.cast(param.working.view(), param.master);
}

void ParamStore::refresh_working() {
  CHECK_ARGUMENT("param", !masters_are_dealt(), "all masters", "a share of them");
  const core::trace::Scope scope("refresh_working");
  if (working_.defined()) kernels(master_.device()).cast(working_.view(), master_);
}

Tensor ParamStore::own_master() const {
  const ElementRange own = own_range();
  return slice_of(master_, masters_are_dealt() ? ElementRange{0, own.size()} : own);
}

Tensor ParamStore::own_working() const {
  return working_.defined() ? slice_of(working_, own_range()) : Tensor();
}

void ParamStore::refresh_own_vectors() {
  if (!masters_are_dealt()) return;
  for (Param& p : params_) {
    if (!p.trainable || !is_vector(p)) continue;
    Tensor copy = slice_of(p.working, part_of(p, share_.index));
    kernels(master_.device()).cast(copy.view(), p.kept);
  }
}

std::vector<Tensor> ParamStore::working_parts(int64_t index) const {
  const ElementRange range = range_of(trainable_numel_, {index, share_.count});
  if (!masters_are_dealt()) return {slice_of(master_, range)};
  return {slice_of(working_, range), slice_of(vectors_, {vector_elements_before(range.begin),
                                                         vector_elements_before(range.end)})};
}

void ParamStore::select_gradient(Tensor flat) {
  CHECK_SHAPE("gradient buffer", flat, (Shape{trainable_numel_}));
  CHECK_DTYPE("gradient buffer", flat, wide_dtype());
  gradient_ = std::move(flat);
}

}  // namespace ag
