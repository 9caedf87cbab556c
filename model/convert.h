// Llama -> MLA: choose the pairs that keep RoPE, factor the rest of K together with V (section 2).
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "model/keep_set.h"
#include "model/weight_reader.h"

namespace model {

// "joint", "split", "none"; throws kBadConfig for another name.
LatentMethod latent_method_from(const std::string& name);
std::string to_string(LatentMethod method);

struct ConversionOptions {
  RopeChoice rope;
  RopeScore score = RopeScore::product;
  LatentMethod method = LatentMethod::joint;
  int64_t latent_dims_per_kv_head = 0;  // c; with split of each latent; not read with method none
};

// All singular values of a factored matrix, and how many of them the latent keeps.
struct Spectrum {
  std::string matrix;  // "[K_nope, V]", "K_nope" or "V"
  int64_t kept = 0;
  std::vector<double> sigma;  // descending
};

// Per layer: Frobenius norm of what the truncation lost of [K_nope, V], and of that matrix itself.
struct LayerReport {
  double error = 0, norm = 0;
  std::vector<Spectrum> spectra = {};  // of a joint latent one, of split ones two
};

struct Conversion {
  Model model;
  std::vector<LayerReport> layers;
};

// The spec that `options` make of `source`. `norms` may be null for strategies other than 2-norm.
// Throws kBadConfig naming field, range and the largest latent that fits, and for what a model with
// QK-norm excludes: a latent, and 2-norm.
ModelSpec converted_spec(const ModelSpec& source, const ConversionOptions& options,
                         const PairNorms* norms);

// The converted model as weights that are made when they are read: a layer is factored when one of
// its new tensors is asked for, and its tensors are kept until those of another layer are. All else
// is read from the source.
class ConvertedReader : public WeightReader {
 public:
  // Requires: `target` has the source's config; `source` outlives this. `done` is called when a
  // layer has been factored, with its number.
  ConvertedReader(WeightReader& source, const ModelSpec& target,
                  std::function<void(int64_t layer)> done = {});

  ag::DType dtype(const std::string& path) const override;
  // Throws as convert_to() does.
  ag::Tensor load(const std::string& path) override;
  // One for each layer. Requires: every weight has been loaded.
  const std::vector<LayerReport>& layers() const { return layers_; }

 private:
  bool is_made(const std::string& path) const;

  WeightReader& source_;
  std::function<void(int64_t layer)> done_;
  std::set<std::string> of_source_;
  int64_t layer_ = -1;  // of `made_`
  Weights made_;
  std::vector<LayerReport> layers_;
};

// Pure function. What takes the place of k and v is f32; all other tensors are the source's own.
// SVDs in float64 with all of Sigma in the up factor, signs fixed so that a run reproduces. Throws
// kBadConfig like converted_spec, kNumerical for weights that are not finite.
Conversion convert(const Model& source, const ConversionOptions& options, const PairNorms* norms);
// The same to a given spec: any pairs per head, any latent width per layer. Requires: `target` has
// the source's config. Throws kInternal for a latent beyond the rank of what it factors.
Conversion convert_to(const Model& source, const ModelSpec& target);

}  // namespace model
