// Token ids from a safetensors file.
#include <vector>

#include "tests/fuzz/fuzz.h"
#include "trainer/files/ids_file.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kVocabulary = 97;
  fuzz::accepts([&] {
    const ag::Tensor ids =
        trainer::parse_ids("x.safetensors", std::as_bytes(std::span(data, size)), kVocabulary);
    fuzz::require(ids.rows() > 0 && ids.cols() > 0, "not empty");
    for (const int32_t id : ids.to_host<int32_t>())
      fuzz::require(id >= 0 && id < kVocabulary, "ids lie in the vocabulary");
  });
  return 0;
}
