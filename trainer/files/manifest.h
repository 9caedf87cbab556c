// MANIFEST.json of a checkpoint or native model folder, written last:
//   {format, format_version, min_reader_version,
//    state: {step, config, config_xxh3_128, values, tensors: name -> {file, dtype, shape,
//    xxh3_128}}, files: name -> {bytes, xxh3_128}, provenance, xxh3_128 of all the rest}
// Equal state gives equal bytes of the state block; all that may differ is in provenance.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace trainer {

inline constexpr char kManifestName[] = "MANIFEST.json";
inline constexpr char kProgramVersion[] = "0.1.0";

struct TensorEntry {
  std::string file;   // plain name inside the folder
  std::string dtype;  // name_of(H5Type)
  std::vector<int64_t> shape;
  std::string hash;  // of the row-major little-endian elements

  friend bool operator==(const TensorEntry&, const TensorEntry&) = default;
};

struct FileEntry {
  uint64_t bytes = 0;
  std::string hash;

  friend bool operator==(const FileEntry&, const FileEntry&) = default;
};

struct Manifest {
  int64_t step = 0;
  std::string config;  // resolved configuration; empty in a model folder
  nlohmann::json values = nlohmann::json::object();
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, FileEntry> files;
  nlohmann::json provenance = nlohmann::json::object();
};

std::string format_manifest(const Manifest& manifest);
// The state block alone, as in the file.
std::string format_state(const Manifest& manifest);

// Every byte counts: any change of the text is refused (kBadData naming `path`). A format that this
// program is too old for: kBadConfig naming both versions.
Manifest parse_manifest(const std::string& path, const std::string& text);
Manifest read_manifest(const std::filesystem::path& folder);
// Identifies the manifest: the hash of its bytes.
std::string manifest_hash(const std::filesystem::path& folder);

// Of this machine; "?" if it does not say.
std::string host_name();

// {program, host, time}: what every writer records.
nlohmann::json basic_provenance();

}  // namespace trainer
