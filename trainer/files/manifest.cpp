#include "trainer/files/manifest.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <ctime>
#include <limits>
#include <optional>

#include "autograd/core/shape.h"
#include "core/checked.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"

namespace trainer {
namespace {

using core::ExitCode;
using nlohmann::json;

constexpr char kFormat[] = "mha2mla-state";
constexpr int kFormatVersion = 1;
constexpr int kMinReaderVersion = 1;
constexpr char kHash[] = "xxh3_128";

json state_block(const Manifest& m) {
  json tensors = json::object();
  for (const auto& [name, t] : m.tensors)
    tensors[name] = {{"file", t.file}, {"dtype", t.dtype}, {"shape", t.shape}, {kHash, t.hash}};
  return {{"step", m.step},
          {"config", m.config},
          {"config_xxh3_128", core::hash_hex(m.config)},
          {"values", m.values},
          {"tensors", tensors}};
}

std::string dump(const json& value) { return value.dump(1) + "\n"; }

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

// An integer that is not negative and fits: get<>() alone would wrap -1 and cut 1e300.
template <class T>
T count_of(const std::string& path, const char* field, const json& value) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<T>::max()))
    core::fail(ExitCode::kBadData, {.path = path,
                                    .field = field,
                                    .expected = "an integer >= 0",
                                    .found = value.dump().substr(0, 80)});
  return value.get<T>();
}

void check_version(const std::string& path, const json& document) {
  if (document.at("format") != kFormat)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .field = "format",
                                    .expected = kFormat,
                                    .found = document.at("format").dump()});
  if (count_of<int64_t>(path, "min_reader_version", document.at("min_reader_version")) >
      kFormatVersion)
    core::fail(ExitCode::kBadConfig,
               {.path = path,
                .field = "format_version",
                .expected = fmt::format("at most {}, which this program reads", kFormatVersion),
                .found = document.at("format_version").dump(),
                .hint = "use the newer program that wrote it"});
}

// Of a tensor that memory could hold: its bytes can be counted.
std::vector<int64_t> shape_of(const std::string& path, const std::string& name, const json& value) {
  const auto require = [&](bool good, const char* expected) {
    if (!good)
      core::fail(ExitCode::kBadData, {.path = path,
                                      .place = name,
                                      .field = "shape",
                                      .expected = expected,
                                      .found = value.dump().substr(0, 80)});
  };
  static_assert(ag::Shape::kMaxRank == 4);
  require(value.size() <= ag::Shape::kMaxRank, "at most 4 extents");
  std::vector<int64_t> shape;
  std::optional<uint64_t> bytes = sizeof(double);
  for (const json& extent : value) {
    shape.push_back(count_of<int64_t>(path, "shape", extent));
    bytes = core::checked_mul(*bytes, static_cast<uint64_t>(shape.back()));
    require(bytes && *bytes <= std::numeric_limits<int64_t>::max(), "a product below 2^60");
  }
  return shape;
}

Manifest from_json(const std::string& path, const json& document) {
  Manifest m;
  const json& state = document.at("state");
  m.step = count_of<int64_t>(path, "step", state.at("step"));
  m.config = state.at("config").get<std::string>();
  m.values = state.at("values");
  for (const auto& [name, entry] : document.at("files").items()) {
    if (!is_plain_name(name))
      core::fail(ExitCode::kBadData, {.path = path,
                                      .place = "files",
                                      .field = name,
                                      .expected = "a plain file name",
                                      .found = "a path"});
    m.files[name] = {count_of<uint64_t>(path, "bytes", entry.at("bytes")),
                     entry.at(kHash).get<std::string>()};
  }
  for (const auto& [name, entry] : state.at("tensors").items()) {
    TensorEntry t{.file = entry.at("file").get<std::string>(),
                  .dtype = entry.at("dtype").get<std::string>(),
                  .shape = shape_of(path, name, entry.at("shape")),
                  .hash = entry.at(kHash).get<std::string>()};
    if (!m.files.contains(t.file))
      core::fail(ExitCode::kBadData, {.path = path,
                                      .place = name,
                                      .field = "file",
                                      .expected = "one of the listed files",
                                      .found = t.file});
    m.tensors.emplace(name, std::move(t));
  }
  m.provenance = document.at("provenance");
  return m;
}

// 2026-01-31T12:00:00Z
std::string utc_time() {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace

std::string format_state(const Manifest& manifest) { return dump(state_block(manifest)); }

std::string format_manifest(const Manifest& m) {
  json files = json::object();
  for (const auto& [name, file] : m.files)
    files[name] = {{"bytes", file.bytes}, {kHash, file.hash}};
  json document = {{"format", kFormat},
                   {"format_version", kFormatVersion},
                   {"min_reader_version", kMinReaderVersion},
                   {"state", state_block(m)},
                   {"files", files},
                   {"provenance", m.provenance}};
  document[kHash] = core::hash_hex(dump(document));
  return dump(document);
}

Manifest parse_manifest(const std::string& path, const std::string& text) {
  json document = core::parse_json(path, text);
  try {
    // Rewritten it must be the same text: so that white space, too, cannot change unnoticed.
    const bool canonical = dump(document) == text;
    const std::string stored = document.at(kHash).get<std::string>();
    document.erase(kHash);
    const std::string actual = core::hash_hex(dump(document));
    if (!canonical || stored != actual)
      core::fail(ExitCode::kBadData, {.path = path,
                                      .field = kHash,
                                      .expected = stored,
                                      .found = canonical ? actual : "an edited file"});
    check_version(path, document);
    return from_json(path, document);
  } catch (const json::exception& e) {
    core::fail(ExitCode::kBadData,
               {.path = path, .field = "manifest", .expected = "its keys", .found = e.what()});
  }
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifestName;
  return parse_manifest(path, core::read_text(path));
}

std::string manifest_hash(const std::filesystem::path& folder) {
  return core::hash_file_hex(folder / kManifestName);
}

std::string host_name() {
  std::array<char, 256> host{};
  return ::gethostname(host.data(), host.size() - 1) == 0 ? host.data() : "?";
}

json basic_provenance() {
  return {{"program", std::string("mha2mla ") + kProgramVersion},
          {"host", host_name()},
          {"time", utc_time()}};
}

}  // namespace trainer
