#include "autograd/params.h"

#include "autograd/kernels/kernels.h"
#include "core/trace.h"

namespace ag {
namespace {

constexpr int64_t kAlignment = 64;  // elements: no cache line belongs to two parameters

int64_t aligned(int64_t n) { return (n + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Tensor Param::gradient() const {
  CHECK_ARGUMENT("param", trainable && store->gradient_.defined(), "a gradient buffer for " + name,
                 trainable ? "none selected" : "a frozen parameter");
  return store->gradient_.slice(offset, shape);
}

ParamStore::ParamStore(const std::vector<Declaration>& declarations, DType compute)
    : compute_(compute) {
  int64_t total = 0;
  for (const bool trainable : {true, false}) {
    for (const Declaration& d : declarations) {
      if (d.trainable != trainable) continue;
      Param& p = params_.emplace_back();
      p.name = d.name;
      p.shape = d.shape;
      p.trainable = trainable;
      p.offset = total;
      p.store = this;
      total += aligned(d.shape.numel());
      CHECK_ARGUMENT("param", by_name_.emplace(d.name, &p).second, "unique names", d.name);
    }
    if (trainable) trainable_numel_ = total;
  }
  master_ = Tensor::zeros({total}, wide_dtype());
  if (compute_ == DType::bf16) working_ = Tensor::zeros({total}, DType::bf16);
  for (Param& p : params_) {
    p.master = master_.slice(p.offset, p.shape);
    const bool copy = compute_ == DType::bf16 && p.shape.rank() > 1;
    p.working = copy ? working_.slice(p.offset, p.shape) : p.master;
  }
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
  k.cast(param.master.view(), values);
  if (compute_ == DType::bf16 && param.shape.rank() > 1) k.cast(param.working.view(), param.master);
}

void ParamStore::refresh_working() {
  const core::trace::Scope scope("refresh_working");
  if (working_.defined()) kernels(master_.device()).cast(working_.view(), master_);
}

Tensor ParamStore::trainable_master() const { return master_.slice(0, {trainable_numel_}); }

Tensor ParamStore::trainable_working() const {
  return working_.defined() ? working_.slice(0, {trainable_numel_}) : Tensor();
}

void ParamStore::select_gradient(Tensor flat) {
  CHECK_SHAPE("gradient buffer", flat, (Shape{trainable_numel_}));
  CHECK_DTYPE("gradient buffer", flat, wide_dtype());
  gradient_ = std::move(flat);
}

}  // namespace ag
