// What of a trainer is saved, loaded and compared, by name.
#include "autograd/core/pool.h"
#include "trainer/models/model_folder.h"
#include "trainer/step/trainer.h"

namespace trainer {

// Masters and moments: whole on every rank, or dealt.
void Trainer::register_params() {
  ag::ParamStore& params = model_.params();
  const auto add = [&](const std::string& name, const ag::Param& p, ag::Tensor own,
                       std::function<void(const void*)> load = {}) {
    std::vector<ag::ElementRange> ranges;
    for (int64_t rank = 0; rank < params.share().count; ++rank)
      ranges.push_back(params.part_of(p, rank));
    if (ranges.size() == 1) return registry_.add_tensor(name, own.reshaped(p.shape));
    registry_.add_dealt(name, {p.shape, ranges, comm_.rank(), std::move(own), std::move(load)});
  };
  for (ag::Param& p : params.all()) {
    if (params.masters_are_dealt()) {
      add(p.name, p, p.kept, [&params, &p](const void* values) {
        ag::Tensor whole = ag::Tensor::empty(p.shape, params.wide_dtype());
        whole.copy_from(values);
        params.load(p, whole);
      });
      registry_.add_replica("working/" + p.name, p.working);
    } else {
      registry_.add_tensor(p.name, p.master);
    }
    if (!p.trainable) continue;
    add("optimizer.m/" + p.name, p, optimizer_.m(p));
    add("optimizer.v/" + p.name, p, optimizer_.v(p));
  }
}

void Trainer::register_state() {
  register_params();
  register_kept_pairs(registry_, model_.spec());
  const auto counter = [this](const char* name, auto get, auto set) {
    registry_.add_value(
        name, [get] { return nlohmann::json(get()); },
        [set](const nlohmann::json& value) { set(value.get<int64_t>()); });
  };
  counter(
      "optimizer.steps", [this] { return optimizer_.steps(); },
      [this](int64_t value) { optimizer_.set_steps(value); });
  counter(
      "trainer.step", [this] { return step_; }, [this](int64_t value) { step_ = value; });
  counter(
      "trainer.tokens", [this] { return tokens_; }, [this](int64_t value) { tokens_ = value; });
  guard_.register_state(registry_);
  // Other shards under the same names would silently change what the remaining steps see.
  const std::string fingerprint = data_.fingerprint();
  registry_.add_constant("data/fingerprint", {static_cast<int64_t>(fingerprint.size())},
                         {fingerprint.begin(), fingerprint.end()});
}

void Trainer::refresh_after_load() {
  // Dealt masters came with their working copies, through tensors that nothing else is as large as.
  if (model_.params().masters_are_dealt())
    ag::Pool::release_cached();
  else
    model_.params().refresh_working();
}

}  // namespace trainer
