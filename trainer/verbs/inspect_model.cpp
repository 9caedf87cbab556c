#include <fmt/format.h>

#include <map>

#include "autograd/kernels/kernels.h"
#include "core/error.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/models/model_folder.h"
#include "trainer/verbs/inspect.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;

std::string kind_name(ModelKind kind) {
  switch (kind) {
    case ModelKind::hugging_face:
      return "hugging_face";
    case ModelKind::gguf:
      return "gguf";
    case ModelKind::native:
      return "native";
    case ModelKind::checkpoint:
      return "checkpoint";
    case ModelKind::run:
      return "run";
  }
  return "unknown";
}

// "layers.3.attn.q.weight" -> "layers.N.attn.q.weight"; equal rows of all layers become one.
std::string path_of_any_layer(const std::string& path) {
  const int64_t layer = model::layer_of(path);
  return layer < 0 ? path : "layers.N." + path.substr(model::layer_prefix(layer).size());
}

struct Row {
  std::string name, dtype, shape;
  auto operator<=>(const Row&) const = default;
};

Report parameter_table(const model::Model& model) {
  std::map<Row, std::pair<int64_t, uint64_t>> rows;  // count, bytes
  std::vector<Row> order;
  for (const model::ParameterShape& p : model::parameter_shapes(model.spec)) {
    const ag::Tensor& weight = model.weights.at(p.path);
    const Row row{path_of_any_layer(p.path), std::string(name_of(h5_type_of(weight.dtype()))),
                  to_string(p.shape)};
    auto& [count, bytes] = rows[row];
    if (count++ == 0) order.push_back(row);
    bytes += static_cast<uint64_t>(weight.numel()) * size_of(h5_type_of(weight.dtype()));
  }
  Report table = Report::array();
  for (const Row& row : order) {
    Report line;
    line["parameter"] = row.name;
    line["dtype"] = row.dtype;
    line["shape"] = row.shape;
    line["count"] = rows[row].first;
    line["bytes"] = rows[row].second;
    table.push_back(line);
  }
  return table;
}

std::string latent_name(model::LatentMethod method) {
  switch (method) {
    case model::LatentMethod::none:
      return "none";
    case model::LatentMethod::joint:
      return "joint";
    case model::LatentMethod::split:
      return "split";
  }
  return "unknown";
}

Report attention_table(const model::ModelSpec& spec) {
  Report table = Report::array();
  for (size_t layer = 0; layer < spec.attention.size(); ++layer) {
    const model::AttentionSpec& attention = spec.attention[layer];
    Report line;
    line["layer"] = layer;
    line["latent"] = latent_name(attention.method);
    line["latent_dims"] = attention.latent_dims;
    line["rotary_columns"] = attention.rotary_columns();
    line["kept_pairs"] = attention.kept_pairs;
    table.push_back(line);
  }
  return table;
}

Report cache_report(const model::ModelSpec& spec) {
  const auto before =
      static_cast<uint64_t>(model::ModelSpec::unconverted(spec.config).cache_elements_per_token());
  const auto now = static_cast<uint64_t>(spec.cache_elements_per_token());
  constexpr uint64_t kBfloat16 = 2;
  Report report;
  report["elements_per_token_before"] = before;
  report["elements_per_token"] = now;
  report["bfloat16_bytes_per_token_before"] = before * kBfloat16;
  report["bfloat16_bytes_per_token"] = now * kBfloat16;
  report["saved_percent"] = 100.0 * (1.0 - static_cast<double>(now) / static_cast<double>(before));
  return report;
}

Report shape_report(const model::LlamaConfig& c) {
  Report report;
  report["model_type"] = c.model_type;
  report["vocab_size"] = c.vocab_size;
  report["hidden_size"] = c.hidden_size;
  report["intermediate_size"] = c.intermediate_size;
  report["layers"] = c.num_hidden_layers;
  report["heads"] = c.num_attention_heads;
  report["kv_heads"] = c.num_key_value_heads;
  report["head_dim"] = c.head_dim;
  report["max_position_embeddings"] = c.max_position_embeddings;
  report["rope_theta"] = c.rope.theta;
  report["tied_embeddings"] = c.tie_word_embeddings;
  return report;
}

// Every checkpoint of a run; with `verify` each is read in full, and what is wrong is said.
Report checkpoint_table(const fs::path& directory, bool verify) {
  Report table = Report::array();
  for (const CheckpointPath& checkpoint : find_checkpoints(directory)) {
    Report line;
    line["step"] = checkpoint.step;
    line["checkpoint"] = checkpoint.path.filename().string();
    try {
      const Manifest manifest = verify_checkpoint(checkpoint.path, verify);
      uint64_t bytes = 0;
      for (const auto& [name, file] : manifest.files) bytes += file.bytes;
      line["bytes"] = bytes;
      line["state"] = verify ? "valid" : "sizes fit";
    } catch (const core::Error& error) {
      line["state"] = error.what();
    }
    table.push_back(line);
  }
  return table;
}

// Hugging Face folders record no hashes; what can be verified is that every weight is a number.
void check_finite(const LoadedModel& loaded) {
  for (const auto& [path, weight] : loaded.model.weights) {
    const int64_t bad = ag::kernels(weight.device()).count_nonfinite(weight.view());
    if (bad > 0)
      core::fail(core::ExitCode::kNumerical, {.path = loaded.folder,
                                              .place = path,
                                              .field = "values",
                                              .expected = "finite numbers",
                                              .found = fmt::format("{} that are not", bad)});
  }
}

}  // namespace

Report inspect_model(const fs::path& path, bool verify) {
  const LoadedModel loaded = load_model(path);
  const model::ModelSpec& spec = loaded.model.spec;
  uint64_t bytes = 0;
  for (const auto& [name, weight] : loaded.model.weights)
    bytes += static_cast<uint64_t>(weight.numel()) * size_of(h5_type_of(weight.dtype()));
  Report report;
  report["kind"] = kind_name(loaded.kind);
  report["path"] = path.string();
  if (loaded.folder != path) report["newest_valid_checkpoint"] = loaded.folder.string();
  report["model_hash"] = loaded.hash;
  report["parameters"] = spec.parameter_count();
  report["bytes"] = bytes;
  report["converted"] = spec.is_converted();
  report["shape"] = shape_report(spec.config);
  report["cache"] = cache_report(spec);
  report["tensors"] = parameter_table(loaded.model);
  if (spec.is_converted()) report["attention"] = attention_table(spec);
  if (loaded.kind == ModelKind::run)
    report["checkpoints"] = checkpoint_table(path / "checkpoints", verify);
  if (loaded.kind == ModelKind::native || loaded.kind == ModelKind::checkpoint) {
    const Manifest manifest = read_manifest(loaded.folder);
    report["step"] = manifest.step;
    report["manifest_hash"] = manifest_hash(loaded.folder);
    report["provenance"] = manifest.provenance;
  }
  if (verify && loaded.kind == ModelKind::hugging_face) check_finite(loaded);
  if (verify) report["verified"] = true;
  if (!loaded.notes.empty()) report["notes"] = loaded.notes;
  return report;
}

}  // namespace trainer
