// Text through real tokenizers: the first byte picks one, the rest is the text. What was encoded
// and decoded is the text again.
#include <array>
#include <memory>

#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace {

struct Fixture {
  const char* name;
  // Whether decode(encode(text)) is the text; otherwise (normalizer) it is from the second time on.
  bool exact;
  data::Tokenizer tokenizer;

  Fixture(const char* n, bool e)
      : name(n),
        exact(e),
        tokenizer(data::Tokenizer::load(std::string(MHA2MLA_TEST_DATA) + "/tokenizer-" + n)) {}
};

// Its space is U+2581, and it puts one at the start of every stretch between added tokens: texts
// that hold either are not the same again.
bool is_odd_for_llama2(const std::string& text) {
  for (const char* odd : {"\xE2\x96\x81", "<s>", "</s>", "<unk>"})
    if (text.find(odd) != std::string::npos) return true;
  return false;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::array<Fixture, 5> fixtures = {Fixture{"gpt2", true}, Fixture{"smollm", true},
                                                  Fixture{"llama3", true}, Fixture{"qwen2", false},
                                                  Fixture{"llama2", true}};
  fuzz::Input input(data, size);
  const Fixture& fixture = fixtures[input.number(1) % fixtures.size()];
  const data::Tokenizer& tokenizer = fixture.tokenizer;
  std::string text = input.rest();
  const bool valid = core::find_invalid_utf8(text) == std::string::npos;
  std::vector<uint32_t> ids;
  if (!fuzz::accepts([&] { ids = tokenizer.encode(text, false); })) return 0;
  fuzz::require(valid, "only UTF-8 is encoded");
  for (const uint32_t id : ids) fuzz::require(id < tokenizer.vocab_size(), "ids below vocab_size");
  std::string decoded = tokenizer.decode(ids, false);
  if (std::string_view(fixture.name) == "llama2" && is_odd_for_llama2(text)) return 0;
  if (!fixture.exact) {
    text = decoded;
    decoded = tokenizer.decode(tokenizer.encode(text, false), false);
  }
  fuzz::require(decoded == text, "what was encoded decodes to the text");
  const std::vector<uint32_t> with_template = tokenizer.encode(text, true);
  fuzz::require(tokenizer.encode(text, true) == with_template, "the second time is as the first");
  return 0;
}
