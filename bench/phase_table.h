// Where the time of a step goes: the events of the fastest of the traced steps, summed by name,
// beside what the machine reached in the same run. Why the fastest: a thread that another process
// has pushed aside makes its siblings wait, in whatever kernel they are.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "autograd/core/tensor.h"
#include "core/trace.h"

namespace bench {

// Two loops that do nothing else than multiply, or stream. Measured between the steps, because a
// shared host changes its speed within seconds.
class Ceilings {
 public:
  explicit Ceilings(ag::DType dtype);
  void measure();
  // The fastest of what was measured.
  double flops_per_second() const;  // y = x w^T of 1024^3, by the kernel of the step
  double bytes_per_second() const;  // a = b + s c over 256 MB, each array counted once

 private:
  ag::Tensor x_, w_, y_;
  std::vector<float> a_, b_, c_;
  double product_seconds_ = std::numeric_limits<double>::infinity();
  double triad_seconds_ = std::numeric_limits<double>::infinity();
};

class PhaseTable {
 public:
  // Requires: no event inside another, or its time counts twice.
  void add_step(const core::trace::Recording& recording, double seconds);
  // "other" is what is left of the step.
  void print(const Ceilings& ceilings) const;

 private:
  struct Phase {
    int64_t calls = 0;
    double seconds = 0, flops = 0, bytes = 0;
  };

  void print_row(const std::string& name, const Phase& phase, const Ceilings& ceilings) const;

  std::map<std::string, Phase> phases_;
  double seconds_ = std::numeric_limits<double>::infinity();
};

}  // namespace bench
