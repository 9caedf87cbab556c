// A rotary plan as shuffles of whole vectors of columns: for any column j of y
//   y[j] = x[source] cos + x[partner] (+-sin),  or x[source] where it is copied.
// Vectors that turn alike share their cosines and sines, which are fetched once per row.
#pragma once

#include "autograd/kernels/cpu/isa/shuffle.h"

namespace ag::AG_ISA {
namespace {

constexpr int32_t kPanel = 1024;  // columns whose shuffles are kept at a time, at most
constexpr int32_t kSteps = 256;   // of these shuffles
constexpr int32_t kTurnings = 8;  // different ones among these columns

struct Direction {
  bool inverse;
  AG_INLINE RopePair of(const RopePair& p) const {
    return inverse ? RopePair{p.out_a, p.out_b, p.in_a, p.in_b, p.frequency} : p;
  }
  AG_INLINE RopeCopy of(const RopeCopy& c) const {
    return inverse ? RopeCopy{c.out, c.in, c.count} : c;
  }
};

// Where a column of y comes from.
struct Column {
  int32_t source, partner;
  int32_t turn;  // 1 + frequency, negative where the sine is; 0: copied
};

// The columns [begin, begin + kPanel) of y, as far as there are any.
void list_columns(const RopePlan& plan, Direction direction, int32_t begin, Column* columns) {
  const auto put = [=](int32_t j, const Column& column) {
    if (j >= begin && j < begin + kPanel) columns[j - begin] = column;
  };
  const int32_t sign = direction.inverse ? -1 : 1;
  for (const RopePair* p = plan.pairs.data(); p < plan.pairs.data() + plan.pairs.size(); ++p) {
    const RopePair pair = direction.of(*p);
    put(pair.out_a, {pair.in_a, pair.in_b, -sign * (pair.frequency + 1)});
    put(pair.out_b, {pair.in_b, pair.in_a, sign * (pair.frequency + 1)});
  }
  for (const RopeCopy* c = plan.copies.data(); c < plan.copies.data() + plan.copies.size(); ++c) {
    const RopeCopy copy = direction.of(*c);
    for (int32_t i = 0; i < copy.count; ++i) put(copy.out + i, {copy.in + i, -1, 0});
  }
}

// A vector of bf16 is two of floats, the even and the odd columns; one of wide values is itself.
template <class T>
inline constexpr int32_t kParts = static_cast<int32_t>(sizeof(compute_t<T>) / sizeof(T));

template <class T>
AG_INLINE Vec<compute_t<T>> part_of(Words<T> words, int32_t part) {
  if constexpr (std::is_same_v<T, bf16>) {
    const FloatBits bits = reinterpret_cast<FloatBits>(words);
    return reinterpret_cast<Vec<float>>(part == 0 ? bits << 16 : bits & 0xFFFF0000U);
  } else {
    return reinterpret_cast<Vec<T>>(words);
  }
}

template <class T>
AG_INLINE Words<T> join(const Vec<compute_t<T>>* parts) {
  if constexpr (std::is_same_v<T, bf16>) {
    return reinterpret_cast<Words<T>>((nearest_bits(parts[0]) >> 16) |
                                      (nearest_bits(parts[1]) & 0xFFFF0000U));
  } else {
    return reinterpret_cast<Words<T>>(parts[0]);
  }
}

// How the columns of a vector turn.
template <class T>
struct Turning {
  int32_t turn[kWords<T>];  // as in Column
  Shuffle<compute_t<T>> angles[kParts<T>];
  Vec<compute_t<T>> sign[kParts<T>];
  IntVec<compute_t<T>> turned[kParts<T>];
};

// Cosines and sines of a row for the columns of a vector.
template <class T>
struct Angles {
  Vec<compute_t<T>> cosine[kParts<T>], sine[kParts<T>];
};

// A vector of columns of y.
template <class T>
struct Piece {
  int32_t column, done;  // the first `done` columns belong to the piece before
  Shuffle<T> source, partner;
  int32_t turning;  // negative: all are copied
};

// Some columns of all rows, as shuffles.
template <class T>
class Panel {
 public:
  using W = compute_t<T>;
  static constexpr int32_t kWidth = kWords<T>;

  Panel(const RopePlan& plan, bool inverse, int64_t frequencies)
      : plan_(plan),
        direction_{inverse},
        columns_(static_cast<int32_t>(plan.columns)),
        frequencies_(static_cast<int32_t>(frequencies)) {}

  // Takes columns from `begin` on; returns where the next panel begins. The last piece of a row
  // ends with it, and repeats columns of the one before.
  int32_t compile(int32_t begin) {
    const int32_t base = begin > kWidth ? begin - kWidth : 0;
    const int32_t last = columns_ > kWidth ? columns_ - kWidth : 0;
    Column list[kPanel];
    list_columns(plan_, direction_, base, list);
    pieces_ = turnings_ = 0;
    next_step_ = step_;
    next_angle_step_ = angle_step_;
    int32_t end = begin;
    while (end < columns_ && next_step_ + kWidth <= step_ + kSteps && turnings_ < kTurnings) {
      const int32_t first = end < last ? end : last;
      if (first + kWidth > base + kPanel) break;
      add_piece(first, end - first, list + (first - base));
      end = first + kWidth;
    }
    return end;
  }

  // Requires: kWidth columns of x and y and kLanes<W> angles exist.
  AG_INLINE void run_row(T* y, const T* x, const W* cosine, const W* sine, bool accumulate) const {
    Angles<T> angles[kTurnings];
    for (const Turning<T>* t = turning_; t < turning_ + turnings_; ++t) {
      Angles<T>& own = angles[t - turning_];
      for (int32_t part = 0; part < kParts<T>; ++part) {
        own.cosine[part] = reinterpret_cast<Vec<W>>(fetch(cosine, t->angles[part]));
        own.sine[part] = reinterpret_cast<Vec<W>>(fetch(sine, t->angles[part])) * t->sign[part];
      }
    }
    // A piece is stored after the loads of the next. Why: x and y often lie a multiple of 4 KiB
    // apart, and a load waits for an earlier store with the same lower 12 bits.
    Words<T> before{};
    for (const Piece<T>* piece = piece_; piece < piece_ + pieces_; ++piece) {
      const Words<T> words = run_piece(*piece, y, x, angles, accumulate);
      if (accumulate) {
        store_words(y + piece->column, words);
      } else if (piece > piece_) {
        store_words(y + piece[-1].column, before);
      }
      before = words;
    }
    store_words(y + piece_[pieces_ - 1].column, before);
  }

 private:
  AG_INLINE Words<T> run_piece(const Piece<T>& piece, const T* y, const T* x,
                               const Angles<T>* angles, bool accumulate) const {
    const Words<T> words = fetch(x, piece.source);
    if (piece.turning < 0 && !accumulate) return words;
    Vec<W> parts[kParts<T>];
    for (int32_t part = 0; part < kParts<T>; ++part) parts[part] = part_of<T>(words, part);
    if (piece.turning >= 0)
      turn(parts, fetch(x, piece.partner), turning_[piece.turning], angles[piece.turning]);
    if (accumulate) add_old(parts, load_words(y + piece.column), piece.done);
    return join<T>(parts);
  }

  AG_INLINE static void turn(Vec<W>* parts, Words<T> partner, const Turning<T>& turning,
                             const Angles<T>& angles) {
    for (int32_t part = 0; part < kParts<T>; ++part) {
      const Vec<W> turned =
          parts[part] * angles.cosine[part] + part_of<T>(partner, part) * angles.sine[part];
      const IntVec<W> mask = turning.turned[part];
      parts[part] = reinterpret_cast<Vec<W>>((reinterpret_cast<IntVec<W>>(turned) & mask) |
                                             (reinterpret_cast<IntVec<W>>(parts[part]) & ~mask));
    }
  }

  AG_INLINE static void add_old(Vec<W>* parts, Words<T> old, int32_t done) {
    using Index = typename LaneInteger<W>::type;
    for (int32_t part = 0; part < kParts<T>; ++part) {
      const IntVec<W> column = lane_index<W>() * static_cast<Index>(kParts<T>) + part;
      const Vec<W> added = column >= static_cast<Index>(done) ? parts[part] : Vec<W>{};
      parts[part] = part_of<T>(old, part) + added;
    }
  }

  void add_piece(int32_t first, int32_t done, const Column* list) {
    int32_t source[kWidth], partner[kWidth], turn[kWidth];
    bool turns = false;
    for (int32_t i = 0; i < kWidth; ++i) {
      const Column column = first + i < columns_ ? list[i] : Column{-1, -1, 0};
      source[i] = column.source;
      partner[i] = column.partner;
      turn[i] = column.turn;
      turns = turns || column.turn != 0;
    }
    Piece<T>& piece = piece_[pieces_++];
    piece = {first, done, compile_shuffle<T>(source, columns_, next_step_), {}, -1};
    if (!turns) return;
    piece.partner = compile_shuffle<T>(partner, columns_, next_step_);
    piece.turning = turning_of(turn);
  }

  int32_t turning_of(const int32_t* turn) {
    for (int32_t i = 0; i < turnings_; ++i)
      if (__builtin_memcmp(turning_[i].turn, turn, sizeof(turning_[i].turn)) == 0) return i;
    Turning<T>& turning = turning_[turnings_];
    __builtin_memcpy(turning.turn, turn, sizeof(turning.turn));
    for (int32_t part = 0; part < kParts<T>; ++part) {
      int32_t frequency[kLanes<W>];
      for (int32_t i = 0; i < kLanes<W>; ++i) {
        const int32_t t = turn[i * kParts<T> + part];
        frequency[i] = (t < 0 ? -t : t) - 1;
        turning.sign[part][i] = t < 0 ? -1 : 1;
        turning.turned[part][i] = t == 0 ? 0 : -1;
      }
      turning.angles[part] = compile_shuffle<W>(frequency, frequencies_, next_angle_step_);
    }
    return turnings_++;
  }

  const RopePlan& plan_;
  Direction direction_;
  int32_t columns_, frequencies_, pieces_ = 0, turnings_ = 0;
  Piece<T> piece_[kPanel / kWidth];
  Turning<T> turning_[kTurnings];
  ShuffleStep<T> step_[kSteps];
  ShuffleStep<W> angle_step_[kTurnings * kWidth / 2];
  ShuffleStep<T>* next_step_ = step_;
  ShuffleStep<W>* next_angle_step_ = angle_step_;
};

}  // namespace
}  // namespace ag::AG_ISA
