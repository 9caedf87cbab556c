#include "model/streamed_llama.h"

#include <string>

#include "core/stop.h"
#include "core/trace.h"
#include "model/rope_tables.h"

namespace model {
namespace {

using ag::Value;

// Of every parameter whose path starts with `prefix`; none is trained.
std::vector<ag::ParamStore::Declaration> declarations(const ModelSpec& spec,
                                                      const std::string& prefix) {
  std::vector<ag::ParamStore::Declaration> list;
  for (const ParameterShape& p : parameter_shapes(spec))
    if (p.path.starts_with(prefix)) list.push_back({p.path, p.shape, false});
  return list;
}

void load(ag::ParamStore& params, WeightReader& weights) {
  for (ag::Param& p : params.all()) params.load(p, weights.load(p.name));
}

std::vector<ag::Tensor> embedded(WeightReader& weights, ag::DType compute,
                                 const std::vector<TextBatch>& texts) {
  ag::ParamStore params(declarations(weights.spec(), "embed.weight"), compute);
  load(params, weights);
  ag::Tape tape(ag::Tape::Mode::kOff);
  std::vector<ag::Tensor> x;
  for (const TextBatch& text : texts)
    x.push_back(ag::embedding(tape, params.at("embed.weight"), text.ids).data);
  return x;
}

class LayerPass {
 public:
  LayerPass(WeightReader& weights, ag::DType compute, int64_t layer)
      : layer_(layer), params_(declarations(weights.spec(), layer_prefix(layer)), compute) {
    load(params_, weights);
  }

  void run(const ModelSpec& spec, RopeTables& rope, const std::vector<TextBatch>& texts,
           const QueryKeyObserver& observe, std::vector<ag::Tensor>& x) {
    const core::trace::ContextScope scope(
        {core::trace::context().phase, static_cast<int32_t>(layer_)});
    const Block block(spec.config, spec.attention[static_cast<size_t>(layer_)], layer_, params_);
    for (size_t i = 0; i < texts.size(); ++i) {
      core::throw_if_stopping();
      const int64_t tokens = texts[i].ids.numel() / texts[i].batch;
      ag::Tape tape(ag::Tape::Mode::kOff);
      const Value in = tape.constant(std::move(x[i]));
      x[i] =
          block.forward(in, {texts[i].batch, tokens, 0, rope.at(tokens, tokens)}, nullptr, observe)
              .data;
    }
  }

 private:
  int64_t layer_;
  ag::ParamStore params_;
};

void normalise(WeightReader& weights, ag::DType compute, std::vector<ag::Tensor>& x) {
  ag::ParamStore params(declarations(weights.spec(), "norm.weight"), compute);
  load(params, weights);
  ag::Tape tape(ag::Tape::Mode::kOff);
  for (ag::Tensor& rows : x)
    rows = ag::rms_norm(tape.constant(std::move(rows)), params.at("norm.weight"),
                        weights.spec().config.rms_norm_eps, compute)
               .data;
}

}  // namespace

std::vector<ag::Tensor> streamed_hidden(WeightReader& weights, ag::DType compute,
                                        const std::vector<TextBatch>& texts,
                                        const QueryKeyObserver& observe, const LayerDone& done) {
  for (const TextBatch& text : texts)
    CHECK_ARGUMENT(
        "llama", text.batch > 0 && text.ids.numel() % text.batch == 0 && text.ids.numel() > 0,
        "ids of " + std::to_string(text.batch) + " sequences", std::to_string(text.ids.numel()));
  const ModelSpec& spec = weights.spec();
  RopeTables rope(spec.config, ag::wide_of(compute));
  std::vector<ag::Tensor> x = embedded(weights, compute, texts);
  ag::Pool::release_cached();  // the embedding shall not stay beside the layers
  for (int64_t layer = 0; layer < spec.config.num_hidden_layers; ++layer) {
    LayerPass(weights, compute, layer).run(spec, rope, texts, observe, x);
    if (done) done(layer);
  }
  normalise(weights, compute, x);
  ag::Pool::release_cached();  // nor these beside the output matrix
  return x;
}

Head::Head(WeightReader& weights, ag::DType compute)
    : params_(declarations(weights.spec(), output_path(weights.spec().config)), compute),
      weight_(&params_.at(output_path(weights.spec().config))) {
  load(params_, weights);
}

std::vector<double> Head::losses(const ag::Tensor& hidden, const ag::Tensor& targets) {
  ag::Tape tape(ag::Tape::Mode::kOff);
  ag::Tensor row_loss;
  ag::linear_cross_entropy(tape.constant(hidden), *weight_, targets,
                           {.gradient_scale = 1, .row_loss = &row_loss});
  return row_loss.to_host<double>();
}

}  // namespace model
