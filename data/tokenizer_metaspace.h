// The Metaspace component, pre-tokenizer and decoder: a visible mark in place of the space.
#pragma once

#include <string>

#include "data/tokenizer_json.h"

namespace data {

struct Metaspace {
  // Whether text that does not begin with the mark gets one: every piece, only the piece at the
  // start of the document, none.
  enum class Prepend { kAlways, kFirst, kNever };

  static Metaspace parse(const JsonNode& node);

  std::string mark;  // one code point
  Prepend prepend = Prepend::kAlways;
  bool split = true;  // every mark begins a word
};

}  // namespace data
