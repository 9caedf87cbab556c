// inspect of a .gguf file: what its header says; no weight is read.
#include <fmt/format.h>

#include "core/file.h"
#include "core/hash.h"
#include "model/gguf_config.h"
#include "model/gguf_reader.h"
#include "model/gguf_tokenizer.h"
#include "model/hf_config.h"
#include "trainer/verbs/inspect.h"

namespace trainer {
namespace {

constexpr size_t kMostText = 200;  // bytes of a value

// Cut where a character begins.
std::string beginning(std::string text) {
  if (text.size() <= kMostText) return text;
  size_t end = kMostText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

Report shown(const model::GgufMetadata& metadata, const std::string& key,
             const model::GgufValue& value) {
  using model::GgufType;
  if (value.count) return fmt::format("{} x {}", *value.count, to_string(value.type));
  switch (value.type) {
    case GgufType::string:
      return beginning(*metadata.string(key));
    case GgufType::boolean:
      return *metadata.boolean(key);
    case GgufType::f32:
    case GgufType::f64:
      return *metadata.number(key);
    default:
      return *metadata.integer(key, INT64_MIN, INT64_MAX);
  }
}

Report model_of(const model::GgufHeader& gguf, const std::string& path,
                std::vector<std::string>& notes) {
  const model::LlamaConfig config =
      model::parse_hf_config(path, model::gguf_config_json(gguf, notes));
  const std::string refusal = model::gguf_tokenizer(gguf.metadata, config.vocab_size).refusal;
  if (!refusal.empty()) notes.push_back("no tokenizer: " + refusal);
  Report report;
  report["layers"] = config.num_hidden_layers;
  report["hidden_size"] = config.hidden_size;
  report["heads"] = config.num_attention_heads;
  report["kv_heads"] = config.num_key_value_heads;
  report["head_dim"] = config.head_dim;
  report["vocab_size"] = config.vocab_size;
  report["parameters"] = model::ModelSpec::unconverted(config).parameter_count();
  return report;
}

}  // namespace

Report inspect_gguf(const std::filesystem::path& path, bool verify) {
  const core::MappedFile file(path);
  const model::GgufHeader gguf = model::parse_gguf(path, file.bytes());
  std::vector<std::string> notes;
  Report report;
  report["kind"] = "gguf";
  report["path"] = path.string();
  report["version"] = gguf.version;
  report["alignment"] = gguf.alignment;
  report["model"] = model_of(gguf, path, notes);
  for (const auto& [key, value] : gguf.metadata.values())
    report["metadata"][key] = shown(gguf.metadata, key, value);
  Report table = Report::array();
  for (const auto& [name, tensor] : gguf.tensors) {
    Report line;
    line["tensor"] = name;
    line["type"] = tensor.block->name;
    line["shape"] = tensor.shape;
    line["bytes"] = tensor.bytes.size();
    table.push_back(line);
  }
  report["tensor_count"] = table.size();
  report["tensors"] = table;
  report["notes"] = notes;
  if (verify) report["file_hash"] = core::hash_file_hex(path);
  return report;
}

}  // namespace trainer
