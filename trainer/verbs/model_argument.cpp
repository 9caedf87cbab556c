#include "trainer/verbs/model_argument.h"

#include "core/error.h"
#include "trainer/comm.h"

namespace trainer {

using core::ExitCode;

LoadedModel open_model(const fs::path& path, const Session& session) {
  LoadedModel loaded = load_model(path);
  for (const std::string& note : loaded.notes) session.say(note);
  return loaded;
}

ag::DType dtype_from(const std::string& name) {
  if (name == "float32") return ag::DType::f32;
  if (name == "bfloat16") return ag::DType::bf16;
  core::fail(ExitCode::kUsage,
             {.field = "--dtype", .expected = "float32 or bfloat16", .found = "\"" + name + "\""});
}

void require_one_rank(const Session& session, const std::string& verb) {
  if (session.comm.size() == 1) return;
  core::fail(ExitCode::kUsage, {.field = verb,
                                .expected = "one rank",
                                .found = std::to_string(session.comm.size()) + " ranks",
                                .hint = "run it without mpirun; train and eval use several ranks"});
}

void require_new(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(fs::symlink_status(path, ignored))) return;
  core::fail(ExitCode::kRunLocked, {.path = path,
                                    .field = "--out",
                                    .expected = "a new name",
                                    .found = "one that exists",
                                    .hint = "remove it or choose another name"});
}

}  // namespace trainer
