// eval: held-out loss of each set and of all, on one or several ranks.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/progress.h"
#include "trainer/models/id_source.h"
#include "trainer/ranks/comm.h"
#include "trainer/verbs/model_argument.h"

namespace trainer {
namespace {

nlohmann::json set_json(const SetResult& set) {
  return {{"name", set.name},
          {"nll", set.nll},
          {"ppl", set.ppl},
          {"tokens", set.tokens},
          {"protocol", set.protocol}};
}

std::string table_row(const SetResult& set) {
  return fmt::format("{:<40}{:>10.5f}{:>14.4f}{:>12}", set.name, set.nll, set.ppl, set.tokens);
}

// JSON has no NaN, and a loss that is none means that the weights are broken.
void require_finite(const SetResult& set, const fs::path& model) {
  if (std::isfinite(set.nll)) return;
  core::fail(core::ExitCode::kNumerical, {.path = model,
                                          .place = set.name,
                                          .field = "nll",
                                          .expected = "a finite loss",
                                          .found = fmt::format("{}", set.nll),
                                          .hint = "mha2mla inspect --verify looks for NaN"});
}

}  // namespace

nlohmann::json run_eval(const EvalOptions& options, Session& session) {
  const ag::DType dtype = dtype_from(options.dtype);
  const LoadedModel loaded = open_model(options.model, session);
  const std::vector<WindowSource> sets = open_windows(options.source, loaded.model.spec.config);
  warn_of_length(sets, loaded.model.spec.config, session);
  model::Llama llama(loaded.model, {.compute = dtype});
  nlohmann::json json = {{"model", options.model.string()},
                         {"model_hash", loaded.hash},
                         {"dtype", options.dtype},
                         {"sets", nlohmann::json::array()}};
  std::vector<SetResult> results;
  for (const WindowSource& set : sets) {
    core::Progress progress("eval " + set.name,
                            static_cast<uint64_t>(set.count / session.comm.size()), "windows",
                            session.comm.rank() != 0);
    results.push_back(evaluate(llama, set, options.batch, &session.comm, [&](int64_t done) {
      progress.update(static_cast<uint64_t>(done));
    }));
    progress.finish();
    require_finite(results.back(), options.model);
    // Not before the first row: a set that cannot be read is one line, the error.
    if (results.size() == 1)
      session.say(fmt::format("{:<40}{:>10}{:>14}{:>12}", "set", "nll", "ppl", "tokens"));
    session.say(table_row(results.back()));
    json["sets"].push_back(set_json(results.back()));
  }
  const SetResult all = combine(results);
  if (results.size() > 1) session.say(table_row(all));
  session.say("protocol: " + all.protocol);
  json["all"] = set_json(all);
  json["all"].erase("name");
  return json;
}

}  // namespace trainer
