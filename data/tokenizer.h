// A Hugging Face tokenizer.json: text to token ids and back, exactly as the reference does it.
//   text -> added tokens cut out -> normalizer -> pre-tokenizer -> BPE -> template -> ids
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace data {

// Immutable and cheap to copy; every function may be called from several threads at once.
class Tokenizer {
 public:
  // Reads FOLDER/tokenizer.json or the file itself. The whole file is checked: kMissingInput,
  // kPermission, kBadData with file and path of the first thing that is wrong or not supported.
  static Tokenizer load(const std::filesystem::path& dir_or_file);

  // The same from the text of the file; `file` names it in errors.
  static Tokenizer parse(const std::filesystem::path& file, const std::string& text);

  // Added tokens in the text are recognized always; `add_special_tokens` applies the template.
  // Throws kBadData, with the byte offset, if `text` is not UTF-8.
  std::vector<uint32_t> encode(std::string_view text, bool add_special_tokens) const;

  // Valid UTF-8 whatever the ids. An id without a token decodes to nothing, as in the reference.
  std::string decode(std::span<const uint32_t> ids, bool skip_special) const;

  // Largest id + 1, added tokens included.
  size_t vocab_size() const;
  std::optional<uint32_t> token_id(std::string_view token) const;

  // What shards and checkpoints record: core::hash_file_hex of the file, and the template, "<s>
  // $A".
  const std::string& hash() const;
  const std::string& template_description() const;
  const std::filesystem::path& path() const;

  // One line each: settings of the file that do not apply to training, oddities worth a look.
  const std::vector<std::string>& notes() const;

 private:
  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state);

  std::shared_ptr<const State> state_;
};

}  // namespace data
