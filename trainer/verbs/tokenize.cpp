#include "data/tokenize_files.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "autograd/kernels/kernels.h"
#include "core/error.h"
#include "core/json.h"
#include "core/progress.h"
#include "core/seconds.h"
#include "core/text.h"
#include "model/hf_config.h"
#include "trainer/models/tokenizer_argument.h"
#include "trainer/verbs/report.h"
#include "trainer/verbs/verbs.h"

namespace trainer {
namespace {

using core::ExitCode;

// `eos_token` is the token itself, or an object with it under `content`.
std::optional<std::string> eos_token_of(const nlohmann::json& config) {
  if (!config.is_object() || !config.contains("eos_token")) return std::nullopt;
  const nlohmann::json& token = config["eos_token"];
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token["content"].is_string())
    return token["content"].get<std::string>();
  return std::nullopt;
}

uint32_t find_eos(const OpenedTokenizer& opened) {
  const data::Tokenizer& tokenizer = opened.tokenizer;
  for (const Companion& file : opened.settings) {
    const nlohmann::json config = core::parse_json(file.shown(), file.text());
    if (!config.is_object()) continue;
    if (const auto token = eos_token_of(config)) {
      if (const auto id = tokenizer.token_id(*token)) return *id;
      core::fail(ExitCode::kBadData, {.path = file.shown(),
                                      .field = "eos_token",
                                      .expected = "a token of tokenizer.json",
                                      .found = "\"" + *token + "\""});
    }
    const auto ids = model::read_eos_token_ids(file.shown(), config);
    if (ids.empty()) continue;
    if (static_cast<uint64_t>(ids.front()) < tokenizer.vocab_size())
      return static_cast<uint32_t>(ids.front());
    core::fail(ExitCode::kBadData, {.path = file.shown(),
                                    .field = "eos_token_id",
                                    .expected = "below " + std::to_string(tokenizer.vocab_size()),
                                    .found = std::to_string(ids.front())});
  }
  core::fail(ExitCode::kMissingInput,
             {.path = tokenizer.path(),
              .field = "eos_token",
              .expected = "tokenizer_config.json (eos_token) or config.json (eos_token_id)",
              .found = "neither",
              .hint = "use --eos none, or give a folder that has one of them"});
}

}  // namespace

nlohmann::json run_tokenize(const TokenizeVerbOptions& options, Session& session) {
  const OpenedTokenizer opened = open_tokenizer(options.tokenizer);
  const data::Tokenizer& tokenizer = opened.tokenizer;
  for (const std::string& note : tokenizer.notes()) session.say("note: " + core::printable(note));
  std::optional<uint32_t> eos;
  if (options.eos == "append") eos = find_eos(opened);
  if (eos && !tokenizer.encode("", true).empty() && tokenizer.encode("", true).back() == *eos)
    session.say("note: the tokenizer's template ends documents already: --eos append doubles it");

  data::ShardOrigin origin{.tokenizer_name = opened.name,
                           .tokenizer_hash = tokenizer.hash(),
                           .vocab_size = static_cast<int64_t>(tokenizer.vocab_size()),
                           .eos_id = {},
                           .key = {},
                           .inputs = {}};
  if (eos) origin.eos_id = *eos;
  std::optional<core::Progress> progress;
  data::TokenizeOptions how;
  how.reader.key = options.key;
  how.threads = ag::threads();
  how.progress = [&](const data::TokenizeProgress& p) {
    if (!progress) progress.emplace("tokenize", p.input_total, "bytes");
    progress->update(p.input_bytes, core::format_count(static_cast<double>(p.tokens)) + " tokens");
  };
  const auto start = std::chrono::steady_clock::now();
  const data::TokenizeResult result = data::tokenize_files(
      options.inputs, options.out, origin,
      [&](std::string_view text) { return tokenizer.encode(text, true); }, how);
  const double seconds = core::seconds_since(start);
  if (progress)
    progress->finish(core::format_count(static_cast<double>(result.tokens)) + " tokens");

  Report report;
  report["shard"] = result.shard.string();
  report["documents"] = result.documents;
  report["tokens"] = result.tokens;
  report["token_size"] = result.token_size;
  report["vocab_size"] = tokenizer.vocab_size();
  report["eos"] = options.eos;
  report["eos_id"] = nullptr;
  if (eos) report["eos_id"] = *eos;
  report["template"] = tokenizer.template_description();
  report["tokenizer_hash"] = tokenizer.hash();
  report["seconds"] = seconds;
  report["tokens_per_second"] = seconds > 0 ? static_cast<double>(result.tokens) / seconds : 0.0;
  if (!session.json) session.say(format_report(report));
  return report;
}

}  // namespace trainer
