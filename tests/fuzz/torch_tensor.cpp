// Files of torch.save.
#include "model/torch_tensor.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::Input input(data, size);
  model::TorchTensor tensor;
  if (!fuzz::accepts([&] { tensor = model::parse_torch_tensor("x.pth", input.bytes()); })) return 0;
  uint64_t count = 1;
  for (const int64_t extent : tensor.shape) count *= static_cast<uint64_t>(extent);
  fuzz::require(tensor.values.size() == count, "as many values as the shape holds");
  return 0;
}
