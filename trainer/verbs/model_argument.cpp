#include "trainer/verbs/model_argument.h"

#include "core/error.h"

namespace trainer {

using core::ExitCode;

LoadedModel open_model(const fs::path& path, const Session& session) {
  LoadedModel loaded = load_model(path);
  for (const std::string& note : loaded.notes) session.say(core::printable(note));
  return loaded;
}

OpenedModel open_streamed(const fs::path& path, const Session& session) {
  OpenedModel opened = stream_model(path);
  for (const std::string& note : opened.notes) session.say(core::printable(note));
  return opened;
}

ag::DType dtype_from(const std::string& name) {
  if (name == "float32") return ag::DType::f32;
  if (name == "bfloat16") return ag::DType::bf16;
  core::fail(ExitCode::kUsage,
             {.field = "--dtype", .expected = "float32 or bfloat16", .found = "\"" + name + "\""});
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
