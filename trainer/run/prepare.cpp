#include "trainer/run/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "autograd/kernels/kernels.h"
#include "model/convert.h"
#include "trainer/checkpoint/folder.h"
#include "trainer/files/manifest.h"
#include "trainer/models/calibration.h"
#include "trainer/models/parity.h"
#include "trainer/ranks/comm.h"
#include "trainer/ranks/same_on_ranks.h"
#include "trainer/run/shared_results.h"

namespace trainer {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// All that decides the bits of a conversion and of what is recorded with it, so that a finished one
// can be recognised.
json conversion_key_of(const Config& config, const LoadedModel& source,
                       const std::vector<WindowSource>& windows) {
  const MlaConfig& mla = *config.mla;
  json key = {{"source_hash", source.hash},
              {"strategy", mla.rope.strategy},
              {"rope_pairs_per_head", mla.rope.rope_pairs_per_head},
              {"score", mla.rope.score},
              {"uniform_start", mla.rope.uniform_start},
              {"method", mla.latent.method},
              {"latent_dims_per_kv_head", mla.latent.latent_dims_per_kv_head},
              {"sequence_length", config.tokens.sequence_length},
              {"micro_batch_size", config.tokens.micro_batch_size},
              {"dtype", config.model.dtype},
              {"validation", json::object()}};
  for (const WindowSource& set : windows)
    key["calibration"].push_back({{"data", set.fingerprint}, {"windows", set.count}});
  for (const auto& [name, set] : open_validation_sets(config, source.model.spec.config.vocab_size))
    key["validation"][name] = {{"data", set.fingerprint()}, {"windows", set.count()}};
  return key;
}

// All that decides the bits of `what` of the source: the part of the conversion's key that it looks
// at, and what computes it.
json source_key(const char* what, const char* data, const json& conversion_key) {
  json key = {{"what", what},
              {"threads", ag::threads()},
              {"isa", std::string(ag::name_of(ag::active_isa()))}};
  for (const char* part : {"source_hash", "sequence_length", "micro_batch_size", "dtype", data})
    key[part] = conversion_key.at(part);
  return key;
}

json to_json(const model::PairNorms& norms) { return {{"query", norms.query}, {"key", norms.key}}; }

model::PairNorms pair_norms(const json& stored, const model::LlamaConfig& config) {
  model::PairNorms norms = equal_pair_norms(config);
  norms.query = stored.at("query").get<std::vector<double>>();
  norms.key = stored.at("key").get<std::vector<double>>();
  return norms;
}

json to_json(const SetResult& loss) {
  return {{"nll", loss.nll},
          {"ppl", loss.ppl},
          {"tokens", loss.tokens},
          {"name", loss.name},
          {"protocol", loss.protocol}};
}

SetResult loss_from(const json& stored) {
  return {.name = stored.at("name"),
          .nll = stored.at("nll"),
          .ppl = stored.at("ppl"),
          .tokens = stored.at("tokens"),
          .protocol = stored.at("protocol")};
}

json compute_validation(const Config& config, const model::Model& source, Comm& comm) {
  const ValidationSets sets = open_validation_sets(config, source.spec.config.vocab_size);
  const ag::DType dtype = config.model.dtype == "bfloat16" ? ag::DType::bf16 : ag::DType::f32;
  model::Llama llama(source, {.compute = dtype});
  std::vector<SetResult> results;
  for (const auto& [name, windows] : sets)
    results.push_back(evaluate(llama, windows, name, config.tokens.micro_batch_size, &comm));
  return to_json(results);
}

// Collective; on rank 0 {SET: ...} of the source.
json validate_source(const Config& config, const model::Model& source, const json& conversion_key,
                     const fs::path& shared, Comm& comm) {
  std::optional<SharedResult> result;  // on rank 0
  comm.run_agreed([&] {
    if (comm.rank() == 0)
      result.emplace(shared, source_key("validation", "validation", conversion_key));
  });
  if (comm.max(result && result->is_known() ? 1 : 0) == 0) {
    const json computed = compute_validation(config, source, comm);
    comm.run_agreed([&] {
      if (result) result->store(computed);
    });
  }
  return result ? result->value() : json();
}

// Rank 0: converts and leaves the result at `folder`.
void convert_to_folder(const Config& config, const LoadedModel& source,
                       const std::vector<WindowSource>& windows, const json& conversion_key,
                       const json& source_validation, const fs::path& folder,
                       const fs::path& shared, const Log& log) {
  const model::ModelSpec& spec = source.model.spec;
  const model::ConversionOptions options = conversion_options(*config.mla, spec.config.pairs());
  const int64_t batch = config.tokens.micro_batch_size;
  model::MemoryReader weights(source.model);
  model::PairNorms norms;
  const bool wants_norms = options.rope.strategy == model::RopeStrategy::two_norm;
  if (wants_norms)
    norms =
        pair_norms(shared_result(shared, source_key("pair norms", "calibration", conversion_key),
                                 [&] { return to_json(calibrate(weights, windows, batch).norms); }),
                   spec.config);
  const SetResult before =
      loss_from(shared_result(shared, source_key("loss", "calibration", conversion_key), [&] {
        return to_json(loss_of(weights, windows, batch, "loss of the source"));
      }));
  model::ConvertedReader converted(
      weights, model::converted_spec(spec, options, wants_norms ? &norms : nullptr));
  discard_folder(folder);  // an unfinished or other conversion of this run
  const auto check = [&](const fs::path& written, Manifest& manifest) {
    const auto stored = state_reader(written, manifest.tensors);
    ParityReport report = compare_specs(spec, stored->spec(), converted.layers());
    report.loss = {.before = before,
                   .after = loss_of(*stored, windows, batch, "loss after conversion")};
    log.info(to_text(report));
    manifest.provenance.update({{"conversion", conversion_key},
                                {"parity", to_json(report)},
                                {"source_validation", source_validation}});
  };
  save_model(folder, converted, source.companions, check);
}

// The key of the finished conversion at `folder`; null when there is none.
json finished_conversion(const fs::path& folder) {
  if (!fs::exists(folder / kManifestName)) return nullptr;
  return read_manifest(folder).provenance.value("conversion", json());
}

}  // namespace

std::vector<WindowSource> calibration_windows(const Config& config, int64_t vocab_size) {
  const CalibrationConfig& c = config.mla->calibration;
  const int64_t s = config.tokens.sequence_length;
  if (c.data.empty()) {
    const auto data = std::make_shared<data::NanosetStages>(open_training_data(config, vocab_size));
    const auto read = [data, s](int64_t index, int32_t* out) {
      std::vector<int32_t> sample(static_cast<size_t>(s + 1));
      data->nanoset(0).sample(index, sample.data());
      std::copy(sample.begin(), sample.end() - 1, out);
    };
    return {{.name = "training mixture",
             .protocol = fmt::format("first {} ids of the first samples", s),
             .fingerprint = data->fingerprint(),
             .count = std::min(c.windows, data->nanoset(0).samples_needed()),
             .sequence_length = s,
             .read = read}};
  }
  std::vector<WindowSource> sets;
  const auto shards = static_cast<int64_t>(c.data.size());
  for (const std::string& path : c.data) {
    const auto windows = std::make_shared<data::EvalWindows>(
        path, vocab_size, s, std::max<int64_t>(1, c.windows / shards));
    sets.push_back({.name = fs::path(path).filename(),
                    .protocol = windows->protocol(),
                    .fingerprint = windows->fingerprint(),
                    .count = windows->count(),
                    .sequence_length = s,
                    .read = [windows](int64_t index, int32_t* out) { windows->read(index, out); }});
  }
  return sets;
}

model::ConversionOptions conversion_options(const MlaConfig& mla, int64_t pairs) {
  model::ConversionOptions options;
  options.rope.strategy = model::rope_strategy_from(mla.rope.strategy);
  options.rope.pairs_per_head = mla.rope.rope_pairs_per_head;
  if (options.rope.strategy == model::RopeStrategy::full) options.rope.pairs_per_head = pairs;
  if (options.rope.strategy == model::RopeStrategy::none) options.rope.pairs_per_head = 0;
  options.rope.uniform_start = mla.rope.uniform_start;
  options.score = model::rope_score_from(mla.rope.score);
  options.method = model::latent_method_from(mla.latent.method);
  options.latent_dims_per_kv_head = mla.latent.latent_dims_per_kv_head;
  return options;
}

json to_json(const std::vector<SetResult>& results) {
  json sets = json::object();
  double sum = 0;
  for (const SetResult& r : results) {
    sets[r.name] = {{"nll", r.nll}, {"ppl", r.ppl}, {"tokens", r.tokens}};
    sum += r.nll;
  }
  if (!results.empty()) sets["mean_nll"] = sum / static_cast<double>(results.size());
  return sets;
}

PreparedModel prepare_model(const Config& config, const fs::path& run_folder, bool resuming,
                            const fs::path& shared, Comm& comm, const Log& log) {
  LoadedModel source;
  comm.run_agreed([&] { source = load_model(config.model.init_from); });
  require_same_on_ranks(comm, source.hash,
                        {.path = config.model.init_from,
                         .field = "hash of the model",
                         .hint = "give all ranks the same files at the same path"});
  for (const std::string& note : source.notes) log.warn(core::printable(note));
  const int64_t before = source.model.spec.cache_elements_per_token();
  if (config.mla && source.model.spec.is_converted())
    log.warn("mla is not used: " + config.model.init_from + " is converted already");
  if (!config.mla || source.model.spec.is_converted())
    return {.model = std::move(source.model),
            .companions = source.companions,
            .source_cache_elements = before,
            .source_validation = nullptr,
            .parity = nullptr};
  const fs::path folder = run_folder / "converted";
  std::vector<WindowSource> windows;
  json conversion_key;  // on rank 0
  bool done = false;
  comm.run_agreed([&] {
    if (comm.rank() != 0) return;
    windows = calibration_windows(config, source.model.spec.config.vocab_size);
    const json finished = finished_conversion(folder);
    if (!resuming || finished.is_null())
      conversion_key = conversion_key_of(config, source, windows);
    done = resuming ? !finished.is_null() : finished == conversion_key;
  });
  if (comm.max(done ? 1 : 0) == 0) {
    const json source_validation =
        validate_source(config, source.model, conversion_key, shared, comm);
    comm.run_agreed([&] {
      if (comm.rank() == 0)
        convert_to_folder(config, source, windows, conversion_key, source_validation, folder,
                          shared, log);
    });
  } else {
    log.info("using the finished conversion in " + folder.string());
  }
  source = {};  // before the converted weights come in: one model at a time
  PreparedModel prepared;
  comm.run_agreed([&] {
    LoadedModel converted = load_model(folder);
    const json provenance = read_manifest(folder).provenance;
    prepared = {.model = std::move(converted.model),
                .companions = converted.companions,
                .converted = true,
                .source_cache_elements = before,
                .source_validation = provenance.value("source_validation", json()),
                .parity = provenance.value("parity", json())};
  });
  return prepared;
}

}  // namespace trainer
