// The kernels of AMX as a table.
#include "autograd/kernels/cpu/amx/amx.h"

namespace ag::AG_ISA {

Kernels with_tiles(Kernels table) {
  table.attention_forward = attention_forward;
  table.attention_backward = attention_backward;
  return table;
}

}  // namespace ag::AG_ISA
