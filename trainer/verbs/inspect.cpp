#include "trainer/verbs/inspect.h"

#include <algorithm>

#include "core/error.h"
#include "trainer/files/manifest.h"
#include "trainer/verbs/verbs.h"

namespace trainer {
namespace {

using core::ExitCode;

bool holds_shards(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == ".ds") return true;
  return false;
}

[[noreturn]] void refuse(const fs::path& path, const std::string& found) {
  core::fail(ExitCode::kMissingInput,
             {.path = path,
              .field = "PATH",
              .expected = "a model, checkpoint or run folder, a folder of .ds shards, or a "
                          ".safetensors, .gguf, .h5, .ds or tokenizer.json file",
              .found = found});
}

Report inspect_folder(const fs::path& path, bool verify) {
  std::error_code error;
  for (const char* mark : {kManifestName, "checkpoints", "config.json"})
    if (fs::exists(path / mark, error)) return inspect_model(path, verify);
  if (holds_shards(path)) return inspect_shards(path, verify);
  if (fs::exists(path / "tokenizer.json", error)) return inspect_tokenizer(path);
  refuse(path, "a folder with none of them");
}

Report inspect_file(const fs::path& path, bool verify) {
  const std::string extension = path.extension();
  if (extension == ".safetensors") return inspect_safetensors(path, verify);
  if (extension == ".gguf") return inspect_gguf(path, verify);
  if (extension == ".h5") return inspect_h5(path, verify);
  if (extension == ".ds") return inspect_shards(path, verify);
  if (path.filename().string().ends_with("tokenizer.json")) return inspect_tokenizer(path);
  refuse(path, "another file");
}

}  // namespace

nlohmann::json run_inspect(const InspectOptions& options, Session& session) {
  std::error_code error;
  if (!fs::exists(options.path, error)) refuse(options.path, "nothing");
  const Report report = fs::is_directory(options.path, error)
                            ? inspect_folder(options.path, options.verify)
                            : inspect_file(options.path, options.verify);
  if (!session.json) session.say(format_report(report));
  return report;
}

}  // namespace trainer
