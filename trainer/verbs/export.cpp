// export: a model -> a Hugging Face folder, read back and compared before it appears.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "model/dense.h"
#include "model/hf_export.h"
#include "model/hf_import.h"
#include "trainer/models/export_folder.h"
#include "trainer/models/id_source.h"
#include "trainer/models/model_comparison.h"
#include "trainer/verbs/model_argument.h"

namespace trainer {
namespace {

using core::ExitCode;
using model::HfLayout;

HfLayout layout_of(const ExportOptions& options) {
  if (options.format == "dense") return HfLayout::plain;
  return options.layout == "v1" ? HfLayout::v1 : HfLayout::v2;
}

std::string source_config(const LoadedModel& source) {
  if (const Companion* const config = find_companion(source.companions, "config.json"))
    return config->text();
  core::fail(ExitCode::kMissingInput,
             {.path = source.folder / "config.json", .field = "file", .found = "missing"});
}

// What was written must be what was meant, bit by bit.
void require_same_bits(const model::Model& meant, const model::Model& written,
                       const fs::path& out) {
  const std::vector<TensorDifference> differences = compare_bits(meant, written);
  if (differences.empty()) return;
  core::fail(ExitCode::kIo, {.path = out,
                             .place = differences[0].tensor,
                             .field = "tensor read back",
                             .expected = "the bits that were written",
                             .found = differences[0].difference});
}

// With rounded weights the function moves, and only the bits can be demanded.
std::string verdict(const Agreement& agreement, bool rounded, size_t tensors) {
  const std::string bits =
      fmt::format("verdict: {} parameters read back, equal bit by bit; ", tensors);
  return bits + (rounded ? "rounded to bfloat16" : same_function_text(agreement));
}

bool any_is_rounded(const model::Model& from, const model::Model& to) {
  for (const auto& [path, weight] : to.weights) {
    const auto source = from.weights.find(path);
    const bool was_wide = source == from.weights.end() || source->second.dtype() == ag::DType::f32;
    if (was_wide && weight.dtype() == ag::DType::bf16) return true;
  }
  return false;
}

}  // namespace

nlohmann::json run_export(const ExportOptions& options, Session& session) {
  require_new(options.out);
  const std::optional<ag::DType> dtype =
      options.dtype.empty() ? std::nullopt : std::optional(dtype_from(options.dtype));
  const LoadedModel source = open_model(options.model, session);
  const model::LlamaConfig& config = source.model.spec.config;
  const HfLayout layout = layout_of(options);
  std::vector<WindowSource> given;
  if (is_given(options.source)) given = open_windows(options.source, config);
  const std::vector<WindowSource> sets = verdict_windows(std::move(given), config);
  const model::Model meant = model::with_dtype(
      layout == HfLayout::plain ? model::expand_to_dense(source.model, options.model)
                                : source.model,
      dtype);
  const bool rounded = any_is_rounded(source.model, meant);
  const model::HfFolder folder =
      model::hf_folder(meant, layout, source_config(source), source.folder);
  Agreement agreement;
  write_hf_folder(options.out, folder, source.companions,
                  static_cast<uint64_t>(options.max_shard_bytes), [&](const fs::path& written) {
                    const model::Model read = model::import_hf(written);
                    require_same_bits(meant, read, options.out);
                    model::MemoryReader before(source.model), after(read);
                    agreement = compare_logits(before, after, sets);
                    require_verdict(agreement, !rounded, options.out);
                  });
  session.say(compared_with_source(agreement));
  session.say(verdict(agreement, rounded, meant.weights.size()));
  session.say(fmt::format("saved {}", options.out.string()));
  nlohmann::json json = to_json(agreement);
  json["data"] = describe(sets);
  json["parameters_equal"] = meant.weights.size();
  json["same_function"] = !rounded;
  json["out"] = options.out.string();
  json["model_hash"] = source.hash;
  return json;
}

}  // namespace trainer
