// tokenizer.json: what is accepted must be able to encode and decode.
#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text = fuzz::text_of(data, size);
  fuzz::accepts([&] {
    const data::Tokenizer tokenizer = data::Tokenizer::parse("tokenizer.json", text);
    for (const char* sample :
         {"", " ", "ab  a\n12 \xC3\xA9\xE2\x96\x81 x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
      fuzz::accepts([&] {
        const std::vector<uint32_t> ids = tokenizer.encode(sample, true);
        for (const uint32_t id : ids)
          fuzz::require(id < tokenizer.vocab_size(), "ids lie below vocab_size");
        fuzz::require(core::find_invalid_utf8(tokenizer.decode(ids, false)) == std::string::npos,
                      "what is decoded is UTF-8");
      });
    }
  });
  return 0;
}
