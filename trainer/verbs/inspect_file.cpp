#include <fmt/format.h>

#include "core/error.h"
#include "core/hash.h"
#include "core/json.h"
#include "data/shard_set.h"
#include "data/tokenizer.h"
#include "model/safetensors.h"
#include "trainer/files/h5.h"
#include "trainer/files/manifest.h"
#include "trainer/verbs/inspect.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

// FILE.ds.json, if there is one: what made the shard.
Report origin_of(const fs::path& shard) {
  const fs::path record = shard.string() + ".json";
  std::error_code error;
  if (!fs::exists(record, error)) return nullptr;
  return core::read_json(record);
}

// FILE.ds.index holds one uint64 for each document.
Report documents_of(const fs::path& shard) {
  std::error_code error;
  const uintmax_t bytes = fs::file_size(shard.string() + ".index", error);
  if (error) return nullptr;
  return bytes / sizeof(uint64_t);
}

Report inspect_shard(const fs::path& path, bool verify) {
  const data::Shard shard(path);
  Report report;
  report["shard"] = path.string();
  report["tokens"] = shard.tokens();
  report["documents"] = documents_of(path);
  report["token_size"] = shard.token_size();
  report["largest_id"] = shard.max_token_id();
  report["bytes"] = shard.bytes();
  report["fingerprint"] = shard.fingerprint();
  if (verify)
    report["verified"] = shard.verify_content() ? Report(true) : Report("no hash recorded");
  return report;
}

}  // namespace

Report inspect_shards(const fs::path& path, bool verify) {
  const std::vector<fs::path> files = data::list_shards(path);
  Report report;
  report["kind"] = fs::is_directory(path) ? "shard_folder" : "shard";
  report["path"] = path.string();
  if (!fs::is_directory(path)) {
    report.update(inspect_shard(path, verify));
    const Report origin = origin_of(path);
    if (!origin.is_null()) report["origin"] = origin;
    return report;
  }
  Report table = Report::array();
  int64_t tokens = 0;
  for (const fs::path& file : files) {
    table.push_back(inspect_shard(file, verify));
    tokens += table.back()["tokens"].get<int64_t>();
  }
  report["tokens"] = tokens;
  report["shards"] = table;
  return report;
}

Report inspect_safetensors(const fs::path& path, bool verify) {
  const model::SafetensorsFile file(path);
  Report table = Report::array();
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    Report line;
    line["tensor"] = name;
    line["dtype"] = tensor.dtype;
    line["shape"] = tensor.shape;
    line["bytes"] = tensor.end - tensor.begin;
    bytes += tensor.end - tensor.begin;
    table.push_back(line);
  }
  Report report;
  report["kind"] = "safetensors";
  report["path"] = path.string();
  report["tensor_count"] = table.size();
  report["bytes"] = bytes;
  report["metadata"] = file.metadata();
  report["tensors"] = table;
  if (verify) report["file_hash"] = core::hash_file_hex(path);
  return report;
}

Report inspect_h5(const fs::path& path, bool verify) {
  std::error_code error;
  Report report;
  report["kind"] = "h5";
  report["path"] = path.string();
  const fs::path folder = fs::absolute(path).parent_path();
  if (verify) {
    if (!fs::exists(folder / kManifestName, error))
      core::fail(ExitCode::kMissingInput, {.path = folder / kManifestName,
                                           .field = "file",
                                           .found = "missing",
                                           .hint = "without it there is no hash to verify"});
    const Manifest manifest = read_manifest(folder);
    const auto entry = manifest.files.find(path.filename());
    const std::string hash = core::hash_file_hex(path);
    if (entry == manifest.files.end() || entry->second.hash != hash)
      core::fail(ExitCode::kBadData,
                 {.path = path,
                  .field = "xxh3_128",
                  .expected = entry == manifest.files.end() ? "an entry in MANIFEST.json"
                                                            : entry->second.hash,
                  .found = hash,
                  .hint = "the file was changed after it was written"});
    report["verified"] = true;
  }
  const H5Reader reader(path);
  Report table = Report::array();
  uint64_t bytes = 0;
  for (const H5Dataset& dataset : reader.datasets()) {
    Report line;
    line["dataset"] = dataset.name;
    line["dtype"] = name_of(dataset.type);
    line["shape"] = to_string(dataset.shape);
    line["bytes"] = dataset.bytes();
    bytes += dataset.bytes();
    table.push_back(line);
  }
  report["bytes"] = bytes;
  report["datasets"] = table;
  return report;
}

Report inspect_tokenizer(const fs::path& path) {
  const data::Tokenizer tokenizer = data::Tokenizer::load(path);
  Report report;
  report["kind"] = "tokenizer";
  report["path"] = tokenizer.path().string();
  report["vocab_size"] = tokenizer.vocab_size();
  report["template"] = tokenizer.template_description();
  report["tokenizer_hash"] = tokenizer.hash();
  report["notes"] = tokenizer.notes();
  return report;
}

}  // namespace trainer
