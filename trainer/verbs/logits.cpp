// logits: input_ids [B, S] -> logits [B, S, V] F32, one sequence at a time.
#include <nlohmann/json.hpp>

#include "core/checked.h"
#include "core/error.h"
#include "core/progress.h"
#include "model/llama.h"
#include "model/safetensors.h"
#include "trainer/models/id_source.h"
#include "trainer/verbs/model_argument.h"

namespace trainer {
namespace {

void require_representable(const fs::path& ids, int64_t rows, int64_t length, int64_t vocab) {
  const auto elements =
      core::checked_mul(static_cast<uint64_t>(rows * length), static_cast<uint64_t>(vocab));
  constexpr uint64_t kMostElements = uint64_t{1} << 60;
  if (!elements || *elements > kMostElements)
    core::fail(core::ExitCode::kBadData, {.path = ids,
                                          .field = "logits",
                                          .expected = "at most 2^60 elements",
                                          .found = std::to_string(rows * length) + " ids"});
}

}  // namespace

nlohmann::json run_logits(const LogitsOptions& options, Session& session) {
  const ag::DType dtype = dtype_from(options.dtype);
  const LoadedModel loaded = open_model(options.model, session);
  const int64_t vocab = loaded.model.spec.config.vocab_size;
  const ag::Tensor ids = read_ids(options.ids, vocab);
  const int64_t rows = ids.rows(), length = ids.cols();
  require_representable(options.ids, rows, length, vocab);
  model::Llama llama(loaded.model, {.compute = dtype});
  ag::Tensor logits = ag::Tensor::empty({rows, length, vocab}, ag::DType::f32);
  core::Progress progress("logits", static_cast<uint64_t>(rows), "sequences");
  for (int64_t b = 0; b < rows; ++b) {
    const ag::Tensor one = llama.logits(ids.slice(b * length, {length}), 1);
    logits.slice(b * length * vocab, {length, vocab}).copy_from(one.to_host<float>().data());
    progress.update(static_cast<uint64_t>(b + 1));
  }
  progress.finish();
  model::write_safetensors(options.out, {{"logits", logits}}, {{"model_hash", loaded.hash}});
  session.say(options.out.string() + ": logits " + ag::to_string(logits.shape()) + " float32");
  return {{"out", options.out.string()},
          {"shape", {rows, length, vocab}},
          {"dtype", options.dtype},
          {"model_hash", loaded.hash}};
}

}  // namespace trainer
