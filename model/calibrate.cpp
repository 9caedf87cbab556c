#include "model/calibrate.h"

#include <cmath>

#include "core/error.h"
#include "model/safetensors.h"

namespace model {
namespace {

// Adds to sums [heads, P] the norm of each pair of each row of x [N, heads * 2P].
template <class T>
void add_pair_norms(double* sums, const std::vector<T>& x, int64_t heads, int64_t pairs) {
  const int64_t columns = heads * 2 * pairs;
  const auto rows = static_cast<int64_t>(x.size()) / columns;
  for (int64_t n = 0; n < rows; ++n) {
    const T* row = x.data() + n * columns;
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t k = 0; k < pairs; ++k) {
        const auto a = static_cast<double>(row[h * 2 * pairs + k]);
        const auto b = static_cast<double>(row[h * 2 * pairs + k + pairs]);
        sums[h * pairs + k] += std::sqrt(a * a + b * b);
      }
    }
  }
}

void add_pair_norms(double* sums, const ag::Tensor& x, int64_t heads, int64_t pairs) {
  ag::dispatch_float(x.dtype(),
                     [&]<class T>() { add_pair_norms(sums, x.to_host<T>(), heads, pairs); });
}

}  // namespace

Calibration::Calibration(const ModelSpec& spec) {
  if (spec.is_converted())
    core::fail(
        core::ExitCode::kBadConfig,
        {.field = "calibrate", .expected = "an unconverted model", .found = "a converted one"});
  const LlamaConfig& c = spec.config;
  if (c.qk_norm)
    core::fail(
        core::ExitCode::kBadConfig,
        {.field = "calibrate",
         .expected = "a model without QK-norm",
         .found = c.model_type,
         .hint = "2-norm is not for models whose q and k are normalised: use high or uniform"});
  sums_.heads = c.num_attention_heads;
  sums_.kv_heads = c.num_key_value_heads;
  sums_.pairs = c.pairs();
  sums_.query.assign(static_cast<size_t>(c.num_hidden_layers * sums_.heads * sums_.pairs), 0);
  sums_.key.assign(static_cast<size_t>(c.num_hidden_layers * sums_.kv_heads * sums_.pairs), 0);
}

void Calibration::observe(int64_t layer, const ag::Tensor& q, const ag::Tensor& k) {
  add_pair_norms(sums_.query.data() + layer * sums_.heads * sums_.pairs, q, sums_.heads,
                 sums_.pairs);
  add_pair_norms(sums_.key.data() + layer * sums_.kv_heads * sums_.pairs, k, sums_.kv_heads,
                 sums_.pairs);
  if (layer == 0) tokens_ += q.rows();
}

QueryKeyObserver Calibration::observer() {
  return [this](int64_t layer, const ag::Tensor& q, const ag::Tensor& k) { observe(layer, q, k); };
}

PairNorms Calibration::pair_norms() const {
  PairNorms means = sums_;
  for (std::vector<double>* sums : {&means.query, &means.key})
    for (double& s : *sums) s /= static_cast<double>(tokens_);
  return means;
}

namespace {

ag::Tensor to_tensor(const std::vector<double>& values, int64_t layers, int64_t heads,
                     int64_t pairs) {
  return ag::Tensor::from_host<double>({layers, heads, pairs}, values);
}

std::vector<double> load_norms(const SafetensorsFile& file, const char* name,
                               const ag::Shape& shape) {
  const ag::Tensor t = file.load(name);
  if (!(t.shape() == shape) || t.dtype() != ag::DType::f64)
    core::fail(core::ExitCode::kBadData,
               {.path = file.path(),
                .place = name,
                .field = "tensor",
                .expected = "float64 " + to_string(shape),
                .found = std::string(name_of(t.dtype())) + " " + to_string(t.shape()),
                .hint = "run mha2mla calibrate on this model"});
  std::vector<double> norms = t.to_host<double>();
  for (const double norm : norms)
    if (!std::isfinite(norm) || norm < 0)
      core::fail(core::ExitCode::kBadData, {.path = file.path(),
                                            .place = name,
                                            .field = "values",
                                            .expected = "finite norms",
                                            .found = std::to_string(norm),
                                            .hint = "run mha2mla calibrate on this model"});
  return norms;
}

}  // namespace

void write_statistics(const std::filesystem::path& path, const PairNorms& norms,
                      const std::string& model_hash, int64_t tokens, const std::string& data) {
  const auto layers = static_cast<int64_t>(norms.key.size()) / (norms.kv_heads * norms.pairs);
  const auto of_kv_heads = [&](const std::vector<double>& v) {
    return to_tensor(v, layers, norms.kv_heads, norms.pairs);
  };
  write_safetensors(path,
                    {{"query_norm", to_tensor(norms.query, layers, norms.heads, norms.pairs)},
                     {"key_norm", of_kv_heads(norms.key)},
                     {"score_product", of_kv_heads(norms.score(RopeScore::product))},
                     {"score_sum", of_kv_heads(norms.score(RopeScore::sum))}},
                    {{"format", "mha2mla-statistics"},
                     {"model_hash", model_hash},
                     {"tokens", std::to_string(tokens)},
                     {"data", data}});
}

PairNorms read_statistics(const std::filesystem::path& path, const LlamaConfig& config,
                          const std::string& model_hash) {
  const SafetensorsFile file(path);
  const auto stored = file.metadata().find("model_hash");
  const std::string of = stored == file.metadata().end() ? "none" : stored->second;
  if (of != model_hash)
    core::fail(core::ExitCode::kBadConfig, {.path = path,
                                            .field = "model_hash",
                                            .expected = model_hash + " (this model)",
                                            .found = of,
                                            .hint = "run mha2mla calibrate on this model"});
  const int64_t layers = config.num_hidden_layers, pairs = config.pairs();
  PairNorms norms{config.num_attention_heads, config.num_key_value_heads, pairs, {}, {}};
  norms.query = load_norms(file, "query_norm", {layers, norms.heads, pairs});
  norms.key = load_norms(file, "key_norm", {layers, norms.kv_heads, pairs});
  return norms;
}

}  // namespace model
