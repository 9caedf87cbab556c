// y[n, :] = table[ids[n], :]
#include "autograd/kernels/kernels.h"
#include "autograd/ops.h"

namespace ag {
namespace {

const int32_t* pointer(const Tensor& ids) { return ids.view().row<int32_t>(0); }

struct Embedding {
  static constexpr const char* kName = "embedding";
  Tensor ids;  // [N] i32

  void backward(Grads& g) const {
    kernels(ids.device()).embedding_backward(g.in(0), g.out(), pointer(ids));
  }
};

}  // namespace

Value embedding(Tape& tape, Param& table, const Tensor& ids) {
  CHECK_DTYPE("embedding", ids, DType::i32);
  Value w = tape.use(table);
  Tensor y = Tensor::empty({ids.numel(), w.data.cols()}, table.master.dtype());
  kernels(ids.device()).embedding_forward(y.view(), w.data, pointer(ids));
  return tape.record(Embedding{ids}, {w}, y);
}

}  // namespace ag
