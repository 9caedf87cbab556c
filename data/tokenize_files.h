// Text files to one Nanoset shard: documents are encoded by several threads and written in the
// order of the input, so that the shard does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "data/shard_writer.h"
#include "data/text_reader.h"

namespace data {

// Text to ids, with the tokenizer's template. Called by several threads at once.
using Encoder = std::function<std::vector<uint32_t>(std::string_view)>;

struct TokenizeProgress {
  uint64_t input_bytes = 0, input_total = 0;  // on disk, compressed or not
  int64_t documents = 0, tokens = 0;
};

struct TokenizeOptions {
  TextReaderOptions reader;
  int threads = 2;
  std::function<void(const TokenizeProgress&)> progress;  // after every batch; may be empty
};

struct TokenizeResult {
  std::filesystem::path shard;
  int64_t documents = 0, tokens = 0;
  int token_size = 0;
};

// Writes PREFIX.ds and its companions. The key and the names of the inputs are put into `origin`
// here. Nothing appears at `prefix` unless all of it succeeds. Throws what TextReader, ShardWriter
// and the encoder throw (of several failing documents, the first one's), kUsage without inputs.
TokenizeResult tokenize_files(std::span<const std::filesystem::path> inputs,
                              const std::filesystem::path& prefix, ShardOrigin origin,
                              const Encoder& encoder, const TokenizeOptions& options = {});

}  // namespace data
