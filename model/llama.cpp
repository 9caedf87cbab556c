#include "model/llama.h"

#include "autograd/checkpoint.h"
#include "core/trace.h"

namespace model {
namespace {

using ag::Value;

// Why check first: a specification that does not fit its weights must not decide what is allocated.
std::vector<ag::ParamStore::Declaration> declarations(const Model& model, Trainable trainable) {
  check_weights(model.spec, model.weights, "model");
  std::vector<ag::ParamStore::Declaration> list;
  for (const ParameterShape& p : parameter_shapes(model.spec))
    list.push_back({p.path, p.shape, is_trainable(p.path, trainable)});
  return list;
}

}  // namespace

bool is_trainable(const std::string& path, Trainable trainable) {
  return trainable == Trainable::all || path.find("attn") != std::string::npos ||
         path.find("norm") != std::string::npos;
}

Llama::Llama(const Model& model, const LlamaOptions& options)
    : spec_(model.spec),
      options_(options),
      params_(declarations(model, options.trainable), options.compute, options.share),
      rope_(spec_.config, params_.wide_dtype()) {
  for (ag::Param& p : params_.all()) params_.load(p, model.weights.at(p.name));
  embed_ = &params_.at("embed.weight");
  norm_ = &params_.at("norm.weight");
  head_ = &params_.at(output_path(spec_.config));
  for (size_t layer = 0; layer < spec_.attention.size(); ++layer)
    blocks_.emplace_back(spec_.config, spec_.attention[layer], static_cast<int64_t>(layer),
                         params_);
}

Value Llama::forward(const Block& block, const Value& x, const Position& at, LayerCache* cache,
                     const QueryKeyObserver& observe) const {
  const auto attend = [=, &block](const Value& v) {
    return block.attention_half(v, at, nullptr, {});
  };
  const bool training = cache == nullptr && !observe && x.tape->recording();
  if (training && options_.recompute == Recompute::block)
    return ag::checkpoint(x, [=, &block](const Value& v) { return block.mlp_half(attend(v)); });
  if (training && options_.recompute == Recompute::attention)
    return block.mlp_half(ag::checkpoint(x, attend));
  return block.forward(x, at, cache, observe);
}

Value Llama::hidden(ag::Tape& tape, const ag::Tensor& ids, int64_t batch, Cache* cache,
                    const QueryKeyObserver& observe) {
  return hidden_before(0, tape, ids, batch, cache, observe);
}

Value Llama::hidden_before(int64_t unread, ag::Tape& tape, const ag::Tensor& ids, int64_t batch,
                           Cache* cache, const QueryKeyObserver& observe) {
  CHECK_ARGUMENT("llama", batch > 0 && ids.numel() % batch == 0 && ids.numel() > 0,
                 "ids of " + std::to_string(batch) + " sequences", std::to_string(ids.numel()));
  CHECK_ARGUMENT("llama", cache == nullptr || batch == 1, "one sequence with a cache",
                 std::to_string(batch));
  const int64_t tokens = ids.numel() / batch, first = cache == nullptr ? 0 : cache->length;
  const Position at{batch, tokens, first, rope_.at(first + tokens, first + tokens + unread)};
  Value x = ag::embedding(tape, *embed_, ids);  // [N, d] wide
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    const core::trace::ContextScope scope(
        {core::trace::context().phase, static_cast<int32_t>(layer)});
    x = forward(blocks_[layer], x, at, cache ? &cache->layers[layer] : nullptr, observe);
  }
  if (cache != nullptr) cache->length += at.tokens;
  return ag::rms_norm(x, *norm_, spec_.config.rms_norm_eps, params_.compute_dtype());
}

Value Llama::loss(ag::Tape& tape, const ag::Tensor& ids, const ag::Tensor& targets, int64_t batch,
                  const ag::LossOptions& options) {
  // The last target belongs to the text, too.
  return ag::linear_cross_entropy(hidden_before(1, tape, ids, batch, nullptr, {}), *head_, targets,
                                  options);
}

ag::Tensor Llama::logits(const ag::Tensor& ids, int64_t batch, Cache* cache) {
  ag::Tape tape(ag::Tape::Mode::kOff);
  return ag::wide_logits(hidden(tape, ids, batch, cache).data, *head_);
}

Weights Llama::weights() const {
  Weights weights;
  for (const ag::Param& p : params_.all()) weights.emplace(p.name, p.master);
  return weights;
}

}  // namespace model
