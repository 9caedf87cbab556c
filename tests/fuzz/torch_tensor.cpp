// Files of torch.save; their pickle by itself, which no check sum protects; and that pickle in a
// sound archive beside some elements. What was read can be written and is read again as the same.
#include "model/torch_tensor.h"

#include <bit>
#include <string>
#include <vector>

#include "model/stored_zip.h"
#include "model/torch_pickle.h"
#include "tests/fuzz/fuzz.h"

namespace {

void check_tensor(const model::TorchTensor& tensor) {
  uint64_t count = 1;
  for (const int64_t extent : tensor.shape) count *= static_cast<uint64_t>(extent);
  fuzz::require(tensor.values.size() == count, "as many values as the shape holds");
  if (count > 4096) return;
  std::vector<float> values;
  for (const double value : tensor.values) values.push_back(static_cast<float>(value));
  const std::string file = model::format_torch_tensor(tensor.shape, values);
  const model::TorchTensor again =
      model::parse_torch_tensor("again.pth", std::as_bytes(std::span(file)));
  fuzz::require(again.shape == tensor.shape, "the shape comes back");
  for (size_t i = 0; i < values.size(); ++i)
    fuzz::require(std::bit_cast<uint32_t>(static_cast<float>(again.values[i])) ==
                      std::bit_cast<uint32_t>(values[i]),
                  "the values come back");
}

void check_file(std::span<const std::byte> file) {
  model::TorchTensor tensor;
  if (fuzz::accepts([&] { tensor = model::parse_torch_tensor("x.pth", file); }))
    check_tensor(tensor);
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::Input input(data, size);
  check_file(input.bytes());
  const std::string pickle = fuzz::text_of(data, size);
  model::TorchStorageView view;
  if (fuzz::accepts([&] { view = model::parse_torch_pickle("x.pth", pickle); }))
    fuzz::require(view.shape.size() == view.strides.size() && view.offset >= 0,
                  "a stride for each size");
  const std::string elements(96, '\1');
  const std::string archive =
      model::format_stored_zip({{"a/data.pkl", pickle}, {"a/data/0", elements}});
  check_file(std::as_bytes(std::span(archive)));
  return 0;
}
