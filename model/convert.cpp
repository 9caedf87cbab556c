// K and V of all kv heads of a layer together: rows of W_k that are not rotary over rows of W_v,
//   X [n, d] = U diag(sigma) Z^T,  down = Z^T[: C],  up = U[:, : C] diag(sigma[: C]).
#include "model/convert.h"

#include <cmath>
#include <utility>

#include "autograd/kernels/kernels.h"
#include "core/error.h"
#include "core/stop.h"
#include "model/rope.h"
#include "model/svd.h"

namespace model {
namespace {

using Matrix = std::vector<double>;  // row-major

ag::Tensor to_float(const ag::Shape& shape, const Matrix& values) {
  ag::Tensor t = ag::Tensor::empty(shape, ag::DType::f32);
  ag::kernels(t.device()).cast(t.view(), ag::Tensor::from_host<double>(shape, values));
  return t;
}

Matrix select_rows(const Matrix& m, const std::vector<int64_t>& rows, int64_t columns) {
  Matrix out;
  out.reserve(rows.size() * static_cast<size_t>(columns));
  for (const int64_t r : rows)
    out.insert(out.end(), m.begin() + r * columns, m.begin() + (r + 1) * columns);
  return out;
}

// Rows of W_k, kv head major: rotary (S, S + P per head) and the rest.
struct KeyRows {
  std::vector<int64_t> rotary, nope;
};

KeyRows key_rows(const AttentionSpec& layer, int64_t head_dim) {
  KeyRows rows;
  int64_t begin = 0;
  for (const auto& kept : layer.kept_pairs) {
    for (const int32_t c : rotary_columns(kept, head_dim)) rows.rotary.push_back(begin + c);
    for (const int32_t c : nope_columns(kept, head_dim)) rows.nope.push_back(begin + c);
    begin += head_dim;
  }
  return rows;
}

class LayerConverter {
 public:
  LayerConverter(WeightReader& source, const ModelSpec& target, int64_t layer, Weights& out)
      : config_(target.config),
        spec_(target.attention[static_cast<size_t>(layer)]),
        prefix_(layer_prefix(layer) + "attn."),
        source_(source),
        out_(out),
        rows_(key_rows(spec_, target.config.head_dim)) {}

  LayerReport run() {
    const int64_t d = config_.hidden_size;
    Matrix k_nope;
    {
      const Matrix k = to_double(source_.load(prefix_ + "k.weight"));
      put("k_rope.weight", rows_.rotary, select_rows(k, rows_.rotary, d), d);
      k_nope = select_rows(k, rows_.nope, d);
    }
    biases();
    const Matrix v = to_double(source_.load(prefix_ + "v.weight"));
    return spec_.method == LatentMethod::joint ? joint(std::move(k_nope), v) : split(k_nope, v);
  }

 private:
  LayerReport joint(Matrix x, const Matrix& v) {  // K_nope comes first
    const int64_t d = config_.hidden_size, latent = spec_.latent_dims;
    const auto nope = static_cast<int64_t>(rows_.nope.size()), n = nope + values();
    x.insert(x.end(), v.begin(), v.end());
    const LeadingFactors f = leading_factors(x, n, d, latent);
    put("kv_down.weight", {latent, d}, f.down);
    const auto cut = f.up.begin() + nope * latent;
    if (nope > 0) put("k_up.weight", {nope, latent}, Matrix(f.up.begin(), cut));
    put("v_up.weight", {values(), latent}, Matrix(cut, f.up.end()));
    return {
        std::sqrt(f.lost_squared), std::sqrt(f.norm_squared), {{"[K_nope, V]", latent, f.sigma}}};
  }

  LayerReport split(const Matrix& k_nope, const Matrix& v) {
    const int64_t d = config_.hidden_size, latent = spec_.latent_dims;
    const auto nope = static_cast<int64_t>(rows_.nope.size());
    const LeadingFactors fk = leading_factors(k_nope, nope, d, latent),
                         fv = leading_factors(v, values(), d, latent);
    put("k_down.weight", {latent, d}, fk.down);
    put("k_up.weight", {nope, latent}, fk.up);
    put("v_down.weight", {latent, d}, fv.down);
    put("v_up.weight", {values(), latent}, fv.up);
    return {std::sqrt(fk.lost_squared + fv.lost_squared),
            std::sqrt(fk.norm_squared + fv.norm_squared),
            {{"K_nope", latent, fk.sigma}, {"V", latent, fv.sigma}}};
  }

  // A bias is added after the up projection, so the latent need not carry it.
  void biases() {
    if (!config_.qkv_bias) return;
    const Matrix k = to_double(source_.load(prefix_ + "k.bias"));
    if (!rows_.rotary.empty())
      put("k_rope.bias", {static_cast<int64_t>(rows_.rotary.size())},
          select_rows(k, rows_.rotary, 1));
    if (!rows_.nope.empty())
      put("k_up.bias", {static_cast<int64_t>(rows_.nope.size())}, select_rows(k, rows_.nope, 1));
    put("v_up.bias", {values()}, to_double(source_.load(prefix_ + "v.bias")));
  }

  int64_t values() const { return config_.num_key_value_heads * config_.head_dim; }

  void put(const char* name, const std::vector<int64_t>& rows, const Matrix& m, int64_t columns) {
    if (!rows.empty()) put(name, {static_cast<int64_t>(rows.size()), columns}, m);
  }
  void put(const std::string& name, const ag::Shape& shape, const Matrix& m) {
    out_.insert_or_assign(prefix_ + name, to_float(shape, m));
  }

  const LlamaConfig& config_;
  const AttentionSpec& spec_;
  std::string prefix_;
  WeightReader& source_;
  Weights& out_;
  KeyRows rows_;
};

[[noreturn]] void refuse_latent(std::string expected, std::string found, std::string hint = {}) {
  core::fail(core::ExitCode::kBadConfig, {.field = "mla.latent.latent_dims_per_kv_head",
                                          .expected = std::move(expected),
                                          .found = std::move(found),
                                          .hint = std::move(hint)});
}

// 1 <= c and C = c G <= min(d, columns of each factored matrix), contract 1.
void check_latent(const LlamaConfig& config, const AttentionSpec& layer, int64_t c) {
  const int64_t kv_heads = config.num_key_value_heads, values = kv_heads * config.head_dim;
  const int64_t nope = layer.nope_columns(config.head_dim);
  if (layer.method == LatentMethod::split && nope == 0)
    core::fail(core::ExitCode::kBadConfig,
               {.field = "mla.latent.method",
                .expected = "joint or none when every pair keeps RoPE",
                .found = "split",
                .hint = "with strategy full there is no part of K to factor"});
  const int64_t columns =
      layer.method == LatentMethod::split ? std::min(nope, values) : nope + values;
  const int64_t largest = std::min(config.hidden_size, columns) / kv_heads;
  if (c < 1 || c > largest) refuse_latent("1 to " + std::to_string(largest), std::to_string(c));
}

// QK-norm stands between the projection of k and its rotation.
void check_qk_norm(const ConversionOptions& options) {
  if (options.rope.strategy == RopeStrategy::two_norm)
    core::fail(core::ExitCode::kBadConfig,
               {.field = "mla.rope.strategy",
                .expected = "high, low, high-low or uniform for a model with QK-norm",
                .found = to_string(options.rope.strategy),
                .hint = "one gain serves all heads, so all heads must keep the same pairs"});
  if (options.method != LatentMethod::none)
    core::fail(
        core::ExitCode::kBadConfig,
        {.field = "mla.latent.method",
         .expected = "none for a model with QK-norm",
         .found = to_string(options.method),
         .hint = "k is normalised whole, after its projection: no part of it is linear in x"});
}

}  // namespace

LatentMethod latent_method_from(const std::string& name) {
  if (name == "joint") return LatentMethod::joint;
  if (name == "split") return LatentMethod::split;
  if (name == "none") return LatentMethod::none;
  core::fail(core::ExitCode::kBadConfig, {.field = "mla.latent.method",
                                          .expected = "joint, split or none",
                                          .found = "\"" + name + "\""});
}

std::string to_string(LatentMethod method) {
  return method == LatentMethod::joint ? "joint" : method == LatentMethod::split ? "split" : "none";
}

ModelSpec converted_spec(const ModelSpec& source, const ConversionOptions& options,
                         const PairNorms* norms) {
  using core::ExitCode;
  if (source.is_converted())
    core::fail(ExitCode::kBadConfig,
               {.field = "model", .expected = "an unconverted model", .found = "a converted one"});
  if (source.config.qk_norm) check_qk_norm(options);
  const bool two_norm = options.rope.strategy == RopeStrategy::two_norm;
  if (two_norm && norms == nullptr)
    core::fail(ExitCode::kBadConfig, {.field = "mla.rope.strategy",
                                      .expected = "calibration statistics with 2-norm",
                                      .found = "none",
                                      .hint = "give --stats FILE, --data SHARD or --ids FILE"});
  const LlamaConfig& c = source.config;
  const std::vector<double> score = two_norm ? norms->score(options.score) : std::vector<double>();
  ModelSpec target = source;
  for (size_t l = 0; l < target.attention.size(); ++l) {
    AttentionSpec& layer = target.attention[l];
    const double* of_layer =
        two_norm ? score.data() + static_cast<int64_t>(l) * c.num_key_value_heads * c.pairs()
                 : nullptr;
    layer.kept_pairs = kept_pairs(options.rope, c.num_key_value_heads, c.pairs(), of_layer);
    layer.method = options.method;
    if (options.method == LatentMethod::none) continue;
    check_latent(c, layer, options.latent_dims_per_kv_head);
    layer.latent_dims = options.latent_dims_per_kv_head * c.num_key_value_heads;
  }
  return target;
}

Conversion convert(const Model& source, const ConversionOptions& options, const PairNorms* norms) {
  return convert_to(source, converted_spec(source.spec, options, norms));
}

ConvertedReader::ConvertedReader(WeightReader& source, const ModelSpec& target,
                                 std::function<void(int64_t layer)> done)
    : WeightReader(target),
      source_(source),
      done_(std::move(done)),
      layers_(target.attention.size()) {
  for (const ParameterShape& p : parameter_shapes(source.spec())) of_source_.insert(p.path);
}

ag::DType ConvertedReader::dtype(const std::string& path) const {
  return is_made(path) ? ag::DType::f32 : source_.dtype(path);
}

ag::Tensor ConvertedReader::load(const std::string& path) {
  if (!is_made(path)) return source_.load(path);
  const int64_t layer = layer_of(path);
  if (layer != layer_) {
    core::throw_if_stopping();
    made_.clear();
    layer_ = -1;  // until it is whole
    layers_.at(static_cast<size_t>(layer)) = LayerConverter(source_, spec(), layer, made_).run();
    layer_ = layer;
    if (done_) done_(layer);
  }
  return made_.at(path);
}

bool ConvertedReader::is_made(const std::string& path) const { return !of_source_.contains(path); }

Conversion convert_to(const Model& source, const ModelSpec& target) {
  MemoryReader reader(source);
  ConvertedReader converted(reader, target);
  Conversion result{load_all(converted), converted.layers()};
  check_weights(target, result.model.weights, "conversion");
  return result;
}

}  // namespace model
