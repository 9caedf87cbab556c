// y[n, :] = table[ids[n], :]
#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"
#include "autograd/ops/ids.h"

namespace ag {
namespace {

struct Embedding {
  static constexpr const char* kName = "embedding";
  Tensor ids;  // [N] i32

  void backward(Grads& g) const { kernels(ids.device()).embedding_backward(g.in(0), g.out(), ids); }
};

}  // namespace

Value embedding(Tape& tape, Param& table, const Tensor& ids) {
  CHECK_ARGUMENT("embedding", table.shape.rank() == 2, "a table [V, D]", to_string(table.shape));
  check_ids("embedding", ids, table.shape[0]);
  Value w = tape.use(table);
  Tensor y = Tensor::empty({ids.numel(), w.data.cols()}, wide_of(table.working.dtype()));
  kernels(ids.device()).embedding_forward(y.view(), w.data, ids);
  return tape.record(Embedding{ids}, {w}, y);
}

}  // namespace ag
