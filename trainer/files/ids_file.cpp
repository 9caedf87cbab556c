#include "trainer/files/ids_file.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "model/safetensors.h"

namespace trainer {
namespace {

using core::ExitCode;

constexpr char kInputIds[] = "input_ids";

}  // namespace

ag::Tensor read_ids(const std::filesystem::path& path, int64_t vocab_size) {
  return parse_ids(path.string(), core::MappedFile(path).bytes(), vocab_size);
}

ag::Tensor parse_ids(const std::string& path, std::span<const std::byte> file, int64_t vocab_size) {
  const model::SafetensorsHeader header = model::parse_safetensors_header(path, file);
  const model::StoredTensor& stored = header.at(path, kInputIds);
  const bool filled = std::all_of(stored.shape.begin(), stored.shape.end(),
                                  [](int64_t extent) { return extent > 0; });
  if ((stored.dtype != "I32" && stored.dtype != "I64") || stored.shape.size() != 2 || !filled)
    core::fail(ExitCode::kBadData, {.path = path,
                                    .place = kInputIds,
                                    .field = "tensor",
                                    .expected = "I32 or I64 [B, S], not empty",
                                    .found = stored.dtype + " " + model::to_string(stored)});
  const ag::Tensor ids = model::load_tensor(path, kInputIds, stored, header.bytes_of(stored, file));
  const std::vector<int32_t> values = ids.to_host<int32_t>();
  const auto bad = std::find_if(values.begin(), values.end(),
                                [&](int32_t id) { return id < 0 || id >= vocab_size; });
  if (bad != values.end()) {
    const int64_t at = bad - values.begin();
    core::fail(ExitCode::kBadData,
               {.path = path,
                .place = std::string(kInputIds) + " row " + std::to_string(at / ids.cols()) +
                         " column " + std::to_string(at % ids.cols()),
                .field = "id",
                .expected = "0 to " + std::to_string(vocab_size - 1) + " (the model's vocabulary)",
                .found = std::to_string(*bad),
                .hint = "encode the text with this model's tokenizer"});
  }
  return ids;
}

}  // namespace trainer
