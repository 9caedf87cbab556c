// Files of torch.save, and their pickle by itself: no damage to it gets past the archive's check
// sum.
#include "model/torch_tensor.h"
#include "model/torch_pickle.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::Input input(data, size);
  model::TorchTensor tensor;
  if (fuzz::accepts([&] { tensor = model::parse_torch_tensor("x.pth", input.bytes()); })) {
    uint64_t count = 1;
    for (const int64_t extent : tensor.shape) count *= static_cast<uint64_t>(extent);
    fuzz::require(tensor.values.size() == count, "as many values as the shape holds");
  }
  model::TorchStorageView view;
  if (fuzz::accepts([&] { view = model::parse_torch_pickle("x.pth", fuzz::text_of(data, size)); }))
    fuzz::require(view.shape.size() == view.strides.size() && view.offset >= 0,
                  "a stride for each size");
  return 0;
}
