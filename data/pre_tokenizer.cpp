#include "data/pre_tokenizer.h"

#include <string>
#include <utility>

#include "data/pre_tokenizer_pattern.h"
#include "data/tokenizer_metaspace.h"
#include "data/tokenizer_normalizer.h"
#include "data/utf8.h"

namespace data {
namespace {

using Piece = PreTokenizer::Piece;
using Sink = PreTokenizer::Sink;

void emit(Piece whole, size_t begin, size_t end, const Sink& sink) {
  if (begin < end) sink({whole.text.substr(begin, end - begin), whole.first && begin == 0});
}

void split_by_pattern(const SplitPattern& pattern, Piece piece, const Sink& sink) {
  for (size_t at = 0; at < piece.text.size();) {
    const size_t end = pattern.match_end(piece.text, at);
    emit(piece, at, end, sink);
    at = end;
  }
}

// Numbers apart from the rest, each digit alone or a run of digits together.
void split_digits(bool individual, Piece piece, const Sink& sink) {
  size_t begin = 0;
  bool in_number = false;
  for (size_t at = 0; at < piece.text.size();) {
    const CodePoint c = code_point_at(piece.text, at);
    const bool number = is_number(c.value);
    if (number != in_number || (number && individual)) {
      emit(piece, begin, at, sink);
      begin = at;
    }
    in_number = number;
    at += c.length;
  }
  emit(piece, begin, piece.text.size(), sink);
}

void split_before_each(std::string_view mark, Piece piece, const Sink& sink) {
  size_t begin = 0;
  for (size_t at; (at = piece.text.find(mark, begin + 1)) != std::string_view::npos; begin = at)
    emit(piece, begin, at, sink);
  emit(piece, begin, piece.text.size(), sink);
}

void apply_metaspace(const Metaspace& metaspace, Piece piece, const Sink& sink) {
  std::string text = replace_all(piece.text, " ", metaspace.mark);
  const bool wanted = metaspace.prepend == Metaspace::Prepend::kAlways ||
                      (metaspace.prepend == Metaspace::Prepend::kFirst && piece.first);
  if (wanted && !text.starts_with(metaspace.mark)) text = metaspace.mark + text;
  if (metaspace.split) {
    split_before_each(metaspace.mark, {text, piece.first}, sink);
  } else {
    emit({text, piece.first}, 0, text.size(), sink);
  }
}

}  // namespace

PreTokenizer PreTokenizer::parse(const std::optional<JsonNode>& node) {
  PreTokenizer pre_tokenizer;
  if (node) pre_tokenizer.add(*node);
  return pre_tokenizer;
}

void PreTokenizer::add(const JsonNode& node) {
  if (steps_.size() >= kMaxComponents)
    node.refuse("at most " + std::to_string(kMaxComponents) + " pre-tokenizers", "more");
  const std::string& type = node.type();
  if (byte_level_) node.refuse("nothing after ByteLevel", quote(type));
  if (type == "Sequence") {
    node.allow_keys({"type", "pretokenizers"});
    for (const JsonNode& item : node.at("pretokenizers").items(kMaxComponents)) add(item);
  } else if (type == "Split") {
    add_split(node);
  } else if (type == "Digits") {
    node.allow_keys({"type", "individual_digits"});
    steps_.push_back([individual = node.boolean("individual_digits", false)](
                         Piece piece, const Sink& sink) { split_digits(individual, piece, sink); });
  } else if (type == "ByteLevel") {
    add_byte_level(node);
  } else if (type == "Metaspace") {
    add_metaspace(node);
  } else {
    node.at("type").refuse(
        "one of the supported pre-tokenizers Sequence, Split, Digits, ByteLevel, Metaspace");
  }
}

void PreTokenizer::add_split(const JsonNode& node) {
  node.allow_keys({"type", "pattern", "behavior", "invert"});
  if (node.at("behavior").string() != "Isolated")
    node.at("behavior").refuse("\"Isolated\", the only behavior supported");
  if (node.boolean("invert", false)) node.at("invert").refuse("false");
  const JsonNode pattern = node.at("pattern");
  pattern.allow_keys({"Regex"});
  std::optional<SplitPattern> known = SplitPattern::find(pattern.at("Regex").string());
  if (!known) pattern.at("Regex").refuse("the pattern of GPT-2, Llama 3 or Qwen 2");
  steps_.push_back([split = *std::move(known)](Piece piece, const Sink& sink) {
    split_by_pattern(split, piece, sink);
  });
}

void PreTokenizer::add_metaspace(const JsonNode& node) {
  // Each gives a mark to every piece of the one before: the pieces would double with every step.
  if (metaspace_) node.refuse("one Metaspace", "another");
  metaspace_ = true;
  steps_.push_back([metaspace = Metaspace::parse(node)](Piece piece, const Sink& sink) {
    apply_metaspace(metaspace, piece, sink);
  });
}

void PreTokenizer::add_byte_level(const JsonNode& node) {
  node.allow_keys({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  byte_level_ = true;
  if (node.boolean("add_prefix_space", true)) {
    steps_.push_back([](Piece piece, const Sink& sink) {
      if (piece.text.starts_with(' ')) return sink(piece);
      std::string prefixed(1, ' ');
      prefixed.append(piece.text);
      sink({prefixed, piece.first});
    });
  }
  if (node.boolean("use_regex", true)) {
    steps_.push_back([split = SplitPattern::gpt2()](Piece piece, const Sink& sink) {
      split_by_pattern(split, piece, sink);
    });
  }
}

void PreTokenizer::run(size_t step, Piece piece, const Sink& sink) const {
  if (step == steps_.size()) {
    sink(piece);
  } else if (step + 1 == steps_.size()) {
    steps_[step](piece, sink);
  } else {
    steps_[step](piece, [&](Piece part) { run(step + 1, part, sink); });
  }
}

}  // namespace data
