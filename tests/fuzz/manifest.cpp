// MANIFEST.json. Its last word is a hash of the rest, which no mutation keeps: so every input is
// tried as it is, and again rewritten with the right hash.
#include <nlohmann/json.hpp>

#include "core/hash.h"
#include "tests/fuzz/fuzz.h"
#include "trainer/files/manifest.h"

namespace {

// Empty if the text is no object.
std::string with_right_hash(const std::string& text) {
  nlohmann::json document = nlohmann::json::parse(text, nullptr, false);
  if (!document.is_object()) return "";
  const auto dump = [&] {
    return document.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  };
  document.erase("xxh3_128");
  document["xxh3_128"] = core::hash_hex(dump());
  return dump();
}

void try_text(const std::string& text) {
  trainer::Manifest manifest;
  if (!fuzz::accepts([&] { manifest = trainer::parse_manifest("MANIFEST.json", text); })) return;
  fuzz::require(manifest.step >= 0, "a step is not negative");
  for (const auto& [name, tensor] : manifest.tensors) {
    fuzz::require(manifest.files.contains(tensor.file), "a tensor lies in a listed file");
    for (const int64_t extent : tensor.shape) fuzz::require(extent >= 0, "no negative extent");
  }
  const trainer::Manifest again =
      trainer::parse_manifest("MANIFEST.json", trainer::format_manifest(manifest));
  fuzz::require(trainer::format_state(again) == trainer::format_state(manifest),
                "what is written is what was read");
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text = fuzz::text_of(data, size);
  try_text(text);
  if (const std::string fixed = with_right_hash(text); !fixed.empty()) try_text(fixed);
  return 0;
}
