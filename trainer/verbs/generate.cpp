// generate: text from a prompt, streamed to stdout unless --json.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainer/models/generation.h"
#include "trainer/models/tokenizer_argument.h"
#include "trainer/verbs/model_argument.h"

namespace trainer {

nlohmann::json run_generate(const GenerateOptions& options, Session& session) {
  const ag::DType dtype = dtype_from(options.dtype);
  Sampler sampler({.temperature = options.temperature,
                   .top_p = options.top_p,
                   .seed = static_cast<uint64_t>(options.seed)});
  const LoadedModel loaded = open_model(options.model, session);
  const data::Tokenizer tokenizer = tokenizer_of(loaded);
  const std::vector<int64_t> eos = generation_eos(loaded);
  const std::vector<uint32_t> prompt = tokenizer.encode(options.prompt, true);
  model::Llama llama(loaded.model, {.compute = dtype});

  TextStream stream(tokenizer, prompt);
  std::string text;
  const auto write = [&](const std::string& piece) {
    text += piece;
    if (session.json) return;
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  const Generation generation = generate(
      llama, std::vector<int32_t>(prompt.begin(), prompt.end()), eos, options.max_new_tokens,
      sampler, [&](int32_t id) { write(stream.add(static_cast<uint32_t>(id))); });
  write(stream.finish());
  if (!session.json) std::fputc('\n', stdout);
  session.say(
      fmt::format("{} + {} tokens, {:.1f} tokens/s, {} cache bytes per token ({}), stop: {}",
                  prompt.size(), generation.tokens.size(), generation.tokens_per_second(),
                  generation.cache_bytes_per_token, options.dtype, to_string(generation.stop)));
  return {{"prompt", options.prompt},
          {"text", text},
          {"ids", generation.tokens},
          {"prompt_tokens", prompt.size()},
          {"new_tokens", generation.tokens.size()},
          {"stop", to_string(generation.stop)},
          {"prefill_seconds", generation.prefill_seconds},
          {"tokens_per_second", generation.tokens_per_second()},
          {"cache_bytes_per_token", generation.cache_bytes_per_token},
          {"dtype", options.dtype}};
}

}  // namespace trainer
