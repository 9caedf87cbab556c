// Vectors whose lanes come from anywhere in a row: a few windows of it, each shuffled into place.
#pragma once

#include "autograd/kernels/cpu/isa/wide.h"

namespace ag::AG_ISA {

// The integer with as many bits as T.
template <class T>
struct Bits {
  using type = typename LaneInteger<T>::type;
};
template <>
struct Bits<bf16> {
  using type = uint16_t;
};

template <class T>
struct WordVector {
  typedef typename Bits<T>::type type __attribute__((vector_size(kVectorBytes), may_alias));
};
// As many T, or their bits, as a vector holds.
template <class T>
using Words = typename WordVector<T>::type;
template <class T>
inline constexpr int32_t kWords = static_cast<int32_t>(kVectorBytes / sizeof(T));

template <class T>
AG_INLINE Words<T> load_words(const T* p) {
  Words<T> words;
  __builtin_memcpy(&words, p, sizeof(words));
  return words;
}

template <class T>
AG_INLINE void store_words(T* p, Words<T> words) {
  __builtin_memcpy(p, &words, sizeof(words));
}

// The lanes that are `chosen` come from the windows [first, first + kWords) and [second, ...).
template <class T>
struct ShuffleStep {
  int32_t first, second;
  Words<T> index, chosen;
};

// A vector as steps [begin, end); plain: one load is all it takes.
template <class T>
struct Shuffle {
  const ShuffleStep<T>*begin, *end;
  bool plain;
};

template <class T>
AG_INLINE Words<T> fetch(const T* row, const Shuffle<T>& shuffle) {
  const ShuffleStep<T>* step = shuffle.begin;
  Words<T> lanes = load_words(row + step->first);
  if (shuffle.plain) return lanes;
  lanes = __builtin_shuffle(lanes, load_words(row + step->second), step->index);
  while (++step < shuffle.end) {
    const Words<T> more = __builtin_shuffle(load_words(row + step->first),
                                            load_words(row + step->second), step->index);
    lanes = (more & step->chosen) | (lanes & ~step->chosen);
  }
  return lanes;
}

// Lane i is column source[i] of a row of `columns`, and anything where that is negative. Takes
// steps from `next` on, at most one for every two lanes. Requires: reading kWords columns of a row
// is allowed even if it has fewer.
template <class T>
Shuffle<T> compile_shuffle(const int32_t* source, int32_t columns, ShuffleStep<T>*& next) {
  constexpr int32_t kWidth = kWords<T>;
  using Index = typename Bits<T>::type;
  const int32_t last_window = columns > kWidth ? columns - kWidth : 0;
  int32_t open[kWidth];
  for (int32_t i = 0; i < kWidth; ++i) open[i] = source[i];
  // The window of the leftmost open column.
  const auto next_window = [&](int32_t from) {
    int32_t window = last_window;
    for (int32_t i = 0; i < kWidth; ++i) {
      const int32_t column = open[i] >= from ? open[i] : last_window;
      window = column < window ? column : window;
    }
    return window;
  };
  const ShuffleStep<T>* begin = next;
  int32_t left = 0, moved = 0;
  do {
    ShuffleStep<T>& step = *next++;
    step.first = next_window(0);
    step.second = next_window(step.first + kWidth);
    Index index[kWidth], chosen[kWidth];
    left = 0;
    for (int32_t i = 0; i < kWidth; ++i) {
      const int32_t a = open[i] - step.first, b = open[i] - step.second;
      const bool in_first = open[i] >= 0 && a < kWidth;
      const bool in_second = open[i] >= 0 && b >= 0 && b < kWidth;
      index[i] = static_cast<Index>(in_first ? a : in_second ? b + kWidth : 0);
      chosen[i] = static_cast<Index>(in_first || in_second ? -1 : 0);
      moved |= static_cast<int32_t>(in_second) | (in_first ? a ^ i : 0);
      open[i] = in_first || in_second ? -1 : open[i];
      left |= static_cast<int32_t>(open[i] >= 0);
    }
    __builtin_memcpy(&step.index, index, sizeof(index));
    __builtin_memcpy(&step.chosen, chosen, sizeof(chosen));
  } while (left != 0);
  return {begin, next, moved == 0 && next == begin + 1};
}

}  // namespace ag::AG_ISA
