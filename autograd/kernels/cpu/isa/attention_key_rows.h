// The second pass of attention backward: rows of the key and value gradients from the parts that
// kv heads and sets of queries have added up.
#pragma once

#include "autograd/kernels/cpu/isa/attention_tiles.h"

namespace ag::AG_ISA {

// to [0, n) += row `key` of each set's part; parts are [keys, stride].
template <class C>
void add_parts(C* __restrict__ to, const C* __restrict__ part, int64_t keys, int64_t stride,
               int64_t key, int64_t n, int64_t sets) {
  part += key * stride;
  for (int64_t set = 0; set < sets; ++set, part += keys * stride) {
    for (int64_t i = 0; i < n; ++i) to[i] += part[i];
  }
}

// Row of a key gradient: the parts of all kv heads, added in the order of the heads and their sets.
// `row` is wide scratch for dk.cols elements; dk_parts is [batch, kv_heads, sets, keys,
// padded(head_dim)].
template <class T, class C>
void store_key_row(View dk, bool rope, C* row, const C* dk_parts, const AttentionShape& shape,
                   int64_t sets, int64_t b, int64_t key) {
  const int64_t stride = padded<C>(shape.head_dim);
  fill(row, dk.cols, C(0));
  for (int64_t g = 0; g < shape.kv_heads; ++g) {
    const KeyParts parts = key_parts(shape, g);
    const C* from = dk_parts + (b * shape.kv_heads + g) * sets * shape.keys * stride;
    if (!rope) from += parts.rope_width;
    add_parts(row + (rope ? parts.rope_begin : parts.nope_begin), from, shape.keys, stride, key,
              rope ? parts.rope_width : parts.nope_width, sets);
  }
  store_row(dk.row<T>(b * shape.keys + key), row, dk.cols, C(1), dk.accumulate);
}

// The same for values, whose heads have columns of their own.
template <class T, class C>
void store_value_row(View dv, C* row, const C* dv_parts, const AttentionShape& shape, int64_t sets,
                     int64_t b, int64_t key) {
  const int64_t stride = padded<C>(shape.value_dim);
  fill(row, dv.cols, C(0));
  for (int64_t g = 0; g < shape.kv_heads; ++g) {
    add_parts(row + g * shape.value_dim,
              dv_parts + (b * shape.kv_heads + g) * sets * shape.keys * stride, shape.keys, stride,
              key, shape.value_dim, sets);
  }
  store_row(dv.row<T>(b * shape.keys + key), row, dv.cols, C(1), dv.accumulate);
}

}  // namespace ag::AG_ISA
