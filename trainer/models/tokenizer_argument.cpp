#include "trainer/models/tokenizer_argument.h"

#include "core/error.h"
#include "model/gguf_import.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;

OpenedTokenizer open_gguf_tokenizer(const fs::path& file) {
  const model::GgufTokenizer stored = model::read_gguf_tokenizer(file);
  return {.tokenizer = data::Tokenizer::parse(file, stored.tokenizer_json),
          .name = file.stem(),
          .settings = {{"tokenizer_config.json", stored.tokenizer_config_json}}};
}

}  // namespace

OpenedTokenizer open_tokenizer(const fs::path& path) {
  if (is_gguf_file(path)) return open_gguf_tokenizer(path);
  data::Tokenizer tokenizer = data::Tokenizer::load(path);
  const fs::path folder = tokenizer.path().parent_path();
  std::string name = fs::absolute(tokenizer.path()).parent_path().filename();
  if (name.empty()) name = tokenizer.path().filename();
  std::vector<Companion> settings;
  for (const char* file : {"tokenizer_config.json", "config.json"}) {
    std::error_code error;
    if (fs::exists(folder / file, error)) settings.emplace_back(folder / file);
  }
  return {std::move(tokenizer), std::move(name), std::move(settings)};
}

data::Tokenizer tokenizer_of(const LoadedModel& model) {
  const fs::path file = model.folder / "tokenizer.json";
  if (const Companion* const stored = find_companion(model.companions, "tokenizer.json"))
    return data::Tokenizer::parse(model.kind == ModelKind::gguf ? model.folder : file,
                                  stored->text());
  core::fail(core::ExitCode::kMissingInput, {.path = model.folder,
                                             .field = "tokenizer",
                                             .expected = "tokenizer.json beside the model, or one "
                                                         "in a .gguf file that can be read",
                                             .found = "none"});
}

}  // namespace trainer
