// A .ds with its sidecars: u8 token size, u32 vocabulary, u16 bytes of the metadata, u16 of the
// index, u16 of the record, then these, then the ids. Oracle: every id taken apart byte by byte.
#include <nlohmann/json.hpp>
#include <vector>

#include "data/shard_files.h"
#include "tests/fuzz/fuzz.h"

namespace {

void check_ids(const data::TokenBytes& ids, std::span<const std::byte> bytes, int64_t vocabulary) {
  std::vector<int32_t> copied(static_cast<size_t>(ids.size()));
  const bool fit = fuzz::accepts([&] { ids.copy(0, ids.size(), vocabulary, copied.data()); });
  const bool checked = fuzz::accepts([&] { ids.check_vocab(vocabulary); });
  fuzz::require(fit == checked, "copying and checking agree");
  fuzz::require(fit == (ids.max_id() < vocabulary), "the largest id decides");
  const auto width = static_cast<size_t>(ids.token_size());
  for (size_t i = 0; fit && i < copied.size(); ++i) {
    int64_t id = 0;
    for (size_t b = width; b-- > 0;) id = id * 256 + std::to_integer<int>(bytes[i * width + b]);
    fuzz::require(copied[i] == id && id < vocabulary,
                  "ids are little-endian, below the vocabulary");
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  int token_size = input.number(1) % 2 == 0 ? 2 : 4;
  const auto vocabulary = static_cast<int64_t>(input.number(4) % (uint64_t{1} << 31)) + 1;
  const size_t metadata_bytes = input.number(2), index_bytes = input.number(2),
               record_bytes = input.number(2);
  const std::string metadata = input.text(metadata_bytes), index = input.text(index_bytes),
                    record = input.text(record_bytes);
  fuzz::accepts([&] {
    const data::ShardMetadata parsed = data::parse_shard_metadata("x.ds.metadata", metadata);
    fuzz::require(parsed.tokens >= 0, "a count");
    token_size = parsed.token_size;
  });
  fuzz::accepts([&] {
    const std::string hash = data::parse_recorded_hash("x.ds.json", record);
    fuzz::require(nlohmann::json::parse(record).at("xxh3_128") == hash, "the hash of the record");
  });
  fuzz::accepts([&] {
    const data::TokenBytes ids("x.ds", input.bytes(), token_size);
    check_ids(ids, input.bytes(), vocabulary);
    data::check_document_index("x.ds.index", std::as_bytes(std::span(index)), ids.size());
    uint64_t last = 0;
    for (size_t i = 0; i < 8 && !index.empty(); ++i)
      last |= uint64_t{static_cast<uint8_t>(index[index.size() - 8 + i])} << (8 * i);
    fuzz::require(last == static_cast<uint64_t>(ids.size()), "the index ends with the shard");
  });
  return 0;
}
