#include "data/tokenizer_decoder.h"

#include <charconv>
#include <utility>

#include "core/text.h"
#include "data/byte_level.h"
#include "data/tokenizer_metaspace.h"
#include "data/tokenizer_normalizer.h"
#include "data/utf8.h"

namespace data {
namespace {

using Tokens = std::vector<std::string>;

Tokens decode_byte_level(const Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) append_byte_level_decoded(bytes, token);
  return {repair_utf8(bytes)};
}

// The byte of a token <0xNN>.
std::optional<char> byte_of(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(static_cast<unsigned char>(value));
}

// A run of byte tokens becomes the text it spells; if it spells none, one U+FFFD per byte.
Tokens decode_byte_fallback(const Tokens& tokens) {
  Tokens out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (core::find_invalid_utf8(run) == std::string_view::npos) {
      out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), "\uFFFD");
    }
    run.clear();
  };
  for (const std::string& token : tokens) {
    if (const auto byte = byte_of(token)) {
      run.push_back(*byte);
    } else {
      flush();
      out.push_back(token);
    }
  }
  flush();
  return out;
}

Tokens fuse(const Tokens& tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  return {std::move(all)};
}

// Removes up to `start` times `content` from the front of every token, up to `stop` from its end.
Tokens strip(Tokens tokens, const std::string& content, uint64_t start, uint64_t stop) {
  for (std::string& token : tokens) {
    std::string_view rest = token;
    for (uint64_t i = 0; i < start && rest.starts_with(content); ++i)
      rest.remove_prefix(content.size());
    for (uint64_t i = 0; i < stop && rest.ends_with(content); ++i)
      rest.remove_suffix(content.size());
    token = std::string(rest);
  }
  return tokens;
}

// The mark becomes a space; at the very start it stood for none.
Tokens decode_metaspace(Tokens tokens, const Metaspace& metaspace) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool dropped = i == 0 && metaspace.prepend != Metaspace::Prepend::kNever;
    tokens[i] = replace_all(tokens[i], metaspace.mark, dropped ? "" : " ");
  }
  return tokens;
}

}  // namespace

TokenDecoder TokenDecoder::parse(const std::optional<JsonNode>& node) {
  TokenDecoder decoder;
  if (node) {
    decoder.add(*node);
  } else {
    decoder.separator_.assign(1, ' ');
  }
  return decoder;
}

void TokenDecoder::add(const JsonNode& node) {
  if (steps_.size() == kMaxComponents)
    node.refuse("at most " + std::to_string(kMaxComponents) + " decoders", "more");
  const std::string& type = node.type();
  if (type == "Sequence") {
    node.allow_keys({"type", "decoders"});
    for (const JsonNode& item : node.at("decoders").items(kMaxComponents)) add(item);
  } else if (type == "ByteLevel") {
    node.allow_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    steps_.push_back([](const Tokens& t, size_t) { return decode_byte_level(t); });
  } else if (type == "Replace") {
    steps_.push_back([r = parse_replacement(node)](Tokens tokens, size_t most) {
      for (std::string& token : tokens) {
        token = replace_all(token, r.pattern, r.content, most);
        most -= token.size();
      }
      return tokens;
    });
  } else if (type == "ByteFallback") {
    node.allow_keys({"type"});
    steps_.push_back([](const Tokens& t, size_t) { return decode_byte_fallback(t); });
  } else if (type == "Fuse") {
    node.allow_keys({"type"});
    steps_.push_back([](const Tokens& t, size_t) { return fuse(t); });
  } else if (type == "Strip") {
    node.allow_keys({"type", "content", "start", "stop"});
    const std::string& content = node.at("content").string();
    if (content.empty() || code_point_at(content, 0).length != content.size())
      node.at("content").refuse("one character");
    const uint64_t start = node.at("start").integer(UINT32_MAX);
    const uint64_t stop = node.at("stop").integer(UINT32_MAX);
    steps_.push_back([=](Tokens t, size_t) { return strip(std::move(t), content, start, stop); });
  } else if (type == "Metaspace") {
    steps_.push_back([metaspace = Metaspace::parse(node)](Tokens tokens, size_t) {
      return decode_metaspace(std::move(tokens), metaspace);
    });
  } else {
    node.at("type").refuse(
        "one of the supported decoders Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, "
        "Metaspace");
  }
}

std::string TokenDecoder::operator()(std::vector<std::string> tokens) const {
  size_t bytes = 0;
  for (const std::string& token : tokens) bytes += token.size();
  const size_t most = most_rewritten_bytes(bytes);
  for (const Step& step : steps_) tokens = step(std::move(tokens), most);
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i)
    text.append(i == 0 ? "" : separator_).append(tokens[i]);
  return text;
}

}  // namespace data
