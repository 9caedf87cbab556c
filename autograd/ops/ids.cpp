#include "autograd/ops/ids.h"

#include <algorithm>

namespace ag {

void check_ids(const char* op, const Tensor& ids, int64_t rows) {
  CHECK_DTYPE(op, ids, DType::i32);
  const std::vector<int32_t> values = ids.to_host<int32_t>();
  const auto outside =
      std::find_if(values.begin(), values.end(), [=](int32_t id) { return id < 0 || id >= rows; });
  CHECK_ARGUMENT(op, outside == values.end(), "ids in [0, " + std::to_string(rows) + ")",
                 std::to_string(*outside) + " at " + std::to_string(outside - values.begin()));
}

}  // namespace ag
