#include "data/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/text.h"
#include "data/bpe.h"
#include "data/encode_scratch.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer_added.h"
#include "data/tokenizer_decoder.h"
#include "data/tokenizer_json.h"
#include "data/tokenizer_normalizer.h"
#include "data/tokenizer_template.h"

namespace data {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

std::unordered_map<std::string_view, uint32_t, TokenHash> index_by_content(
    const std::vector<AddedToken>& added) {
  std::unordered_map<std::string_view, uint32_t, TokenHash> ids;
  for (const AddedToken& token : added) ids.emplace(token.content, token.id);
  return ids;
}

}  // namespace

struct Tokenizer::State {
  State(const std::filesystem::path& file, std::string content_hash, const JsonNode& root);
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  std::optional<uint32_t> token_id(std::string_view token) const;
  void encode_text(std::string_view text, bool first, size_t& budget, EncodeScratch& scratch,
                   std::vector<uint32_t>& ids) const;
  void encode_word(std::string_view word, EncodeScratch& scratch, std::vector<uint32_t>& ids) const;
  void encode_piece(std::string_view word, EncodeScratch& scratch,
                    std::vector<uint32_t>& ids) const;
  void note_oddities(const JsonNode& root);

  std::filesystem::path path;
  std::string hash;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe model;
  std::vector<AddedToken> added;
  std::unordered_map<std::string_view, uint32_t, TokenHash> added_by_content;
  std::unordered_map<uint32_t, const AddedToken*> added_by_id;
  AddedTokenFinder raw_finder, normalized_finder;
  TokenizerTemplate post;
  TokenDecoder decoder;
  size_t vocab_size;
  std::vector<std::string> notes;
  mutable EncodeScratchPool pool;
};

Tokenizer::State::State(const std::filesystem::path& file, std::string content_hash,
                        const JsonNode& root)
    : path(file),
      hash(std::move(content_hash)),
      normalizer(Normalizer::parse(root.find("normalizer"))),
      pre_tokenizer(PreTokenizer::parse(root.find("pre_tokenizer"))),
      model(Bpe::parse(root.at("model"), pre_tokenizer.byte_level())),
      added(parse_added_tokens(root.find("added_tokens"), model, normalizer)),
      added_by_content(index_by_content(added)),
      raw_finder(added, false, normalizer),
      normalized_finder(added, true, normalizer),
      post(TokenizerTemplate::parse(root.find("post_processor"),
                                    [this](std::string_view t) { return token_id(t); })),
      decoder(TokenDecoder::parse(root.find("decoder"))),
      vocab_size(model.size()) {
  for (const AddedToken& token : added) {
    added_by_id.emplace(token.id, &token);
    vocab_size = std::max(vocab_size, size_t{token.id} + 1);
  }
  note_oddities(root);
}

void Tokenizer::State::note_oddities(const JsonNode& root) {
  for (const char* key : {"truncation", "padding"})
    if (root.find(key)) notes.push_back(fmt::format("{} of {} does not apply", key, path.string()));
  size_t unused = vocab_size - (model.size() - model.unused_ids());
  for (const AddedToken& token : added) unused -= model.token(token.id) == nullptr ? 1 : 0;
  if (unused > 0) notes.push_back(fmt::format("{} ids below {} have no token", unused, vocab_size));
}

std::optional<uint32_t> Tokenizer::State::token_id(std::string_view token) const {
  if (const auto found = added_by_content.find(token); found != added_by_content.end())
    return found->second;
  return model.token_id(token);
}

void Tokenizer::State::encode_word(std::string_view word, EncodeScratch& scratch,
                                   std::vector<uint32_t>& ids) const {
  if (pre_tokenizer.byte_level()) return encode_piece(word, scratch, ids);
  for (size_t begin = 0; begin < word.size();) {
    const size_t end = model.next_cut(word, begin);
    encode_piece(word.substr(begin, end - begin), scratch, ids);
    begin = end;
  }
}

void Tokenizer::State::encode_piece(std::string_view word, EncodeScratch& scratch,
                                    std::vector<uint32_t>& ids) const {
  if (scratch.cache.find(word, ids)) return;
  const size_t start = ids.size();
  if (pre_tokenizer.byte_level()) {
    scratch.spelled.clear();
    append_byte_level(scratch.spelled, word);
    model.encode_word(scratch.spelled, scratch.work, ids);
  } else {
    model.encode_word(word, scratch.work, ids);
  }
  scratch.cache.store(word, ids.data() + start, ids.size() - start);
}

void Tokenizer::State::encode_text(std::string_view text, bool first, size_t& budget,
                                   EncodeScratch& scratch, std::vector<uint32_t>& ids) const {
  std::string rewritten;
  if (!normalizer.is_identity()) {
    rewritten = normalizer(std::string(text), budget);
    text = rewritten;
  }
  for (const AddedTokenFinder::Segment& part : normalized_finder.split(text)) {
    if (part.token != nullptr) {
      ids.push_back(part.token->id);
      continue;
    }
    pre_tokenizer.split({text.substr(part.begin, part.end - part.begin), first && part.begin == 0},
                        [&](PreTokenizer::Piece word) { encode_word(word.text, scratch, ids); });
  }
}

Tokenizer::Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& dir_or_file) {
  std::error_code ignored;  // a path that cannot be examined is reported by read_json
  const std::filesystem::path file = std::filesystem::is_directory(dir_or_file, ignored)
                                         ? dir_or_file / "tokenizer.json"
                                         : dir_or_file;
  return parse(file, core::read_text(file, kMaxFileBytes));
}

Tokenizer Tokenizer::parse(const std::filesystem::path& file, const std::string& text) {
  const nlohmann::json json = core::parse_json(file.string(), text);
  const JsonNode root(json, file.string());
  root.allow_keys({"version", "truncation", "padding", "added_tokens", "normalizer",
                   "pre_tokenizer", "post_processor", "decoder", "model"});
  if (const auto version = root.find("version"); version && version->string() != "1.0")
    version->refuse("\"1.0\"");
  return Tokenizer(std::make_shared<const State>(file, core::hash_hex(text), root));
}

std::vector<uint32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  if (const size_t bad = core::find_invalid_utf8(text); bad != std::string_view::npos) {
    core::fail(core::ExitCode::kBadData,
               {.place = fmt::format("byte {}", bad),
                .field = "text",
                .expected = "UTF-8",
                .found = fmt::format("byte 0x{:02X}", static_cast<unsigned char>(text[bad]))});
  }
  const State& state = *state_;
  std::vector<uint32_t> ids;
  ids.reserve(text.size() / 4 + 2);
  if (add_special_tokens) ids = state.post.before;
  size_t budget = most_rewritten_bytes(text.size());
  std::unique_ptr<EncodeScratch> scratch = state.pool.take();
  for (const AddedTokenFinder::Segment& part : state.raw_finder.split(text)) {
    if (part.token != nullptr) {
      ids.push_back(part.token->id);
    } else {
      state.encode_text(text.substr(part.begin, part.end - part.begin), part.begin == 0, budget,
                        *scratch, ids);
    }
  }
  state.pool.give_back(std::move(scratch));
  if (add_special_tokens) ids.insert(ids.end(), state.post.after.begin(), state.post.after.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const uint32_t> ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const uint32_t id : ids) {
    if (const auto added = state_->added_by_id.find(id); added != state_->added_by_id.end()) {
      if (!(skip_special && added->second->special)) tokens.push_back(added->second->content);
    } else if (const std::string* token = state_->model.token(id)) {
      tokens.push_back(*token);
    }
  }
  return state_->decoder(std::move(tokens));
}

size_t Tokenizer::vocab_size() const { return state_->vocab_size; }

std::optional<uint32_t> Tokenizer::token_id(std::string_view token) const {
  return state_->token_id(token);
}

const std::string& Tokenizer::hash() const { return state_->hash; }

const std::string& Tokenizer::template_description() const { return state_->post.description; }

const std::filesystem::path& Tokenizer::path() const { return state_->path; }

const std::vector<std::string>& Tokenizer::notes() const { return state_->notes; }

}  // namespace data
