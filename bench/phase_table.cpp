#include "bench/phase_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "autograd/kernels/kernels.h"
#include "core/seconds.h"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kProductSize = 1024;
constexpr size_t kTriadBytes = 256'000'000;
constexpr int kRepetitions = 3;

// What comes in this order; other names follow.
constexpr std::array kOrder = {"gemm forward",
                               "gemm dgrad",
                               "gemm wgrad",
                               "gemm recompute",
                               "attention forward",
                               "attention backward",
                               "attention recompute",
                               "rms_norm",
                               "rope",
                               "swiglu",
                               "cross_entropy",
                               "optimizer",
                               "all_reduce",
                               "data"};

template <class F>
double seconds_of(F&& work) {
  const auto start = Clock::now();
  work();
  return core::seconds_since(start);
}

ag::Tensor filled(ag::DType dtype) {
  const ag::Shape shape{kProductSize, kProductSize};
  const std::vector<float> values(static_cast<size_t>(shape.numel()), 0.5F);
  ag::Tensor tensor = ag::Tensor::empty(shape, dtype);
  ag::kernels(tensor.device()).cast(tensor.view(), ag::Tensor::from_host<float>(shape, values));
  return tensor;
}

// "12.3   45%", or nothing where the work is unknown.
std::string rate(double work, double seconds, double ceiling) {
  if (work <= 0) return fmt::format("{:>9} {:>5}", "", "");
  const double per_second = work / seconds;
  return fmt::format("{:>9.1f} {:>4.0f}%", per_second * 1e-9, 100 * per_second / ceiling);
}

}  // namespace

Ceilings::Ceilings(ag::DType dtype)
    : x_(filled(dtype)),
      w_(filled(dtype)),
      y_(filled(dtype)),
      a_(kTriadBytes / 3 / sizeof(float)),
      b_(a_.size(), 1.0F),
      c_(a_.size(), 2.0F) {}

void Ceilings::measure() {
  const ag::Kernels& k = ag::kernels(x_.device());
  float *a = a_.data(), *b = b_.data(), *c = c_.data();
  const auto n = static_cast<int64_t>(a_.size());
  k.gemm(y_.view(), x_, false, w_, true);  // warms up: the step has left other data in the caches
  for (int i = 0; i < kRepetitions; ++i) {
    product_seconds_ =
        std::min(product_seconds_, seconds_of([&] { k.gemm(y_.view(), x_, false, w_, true); }));
    triad_seconds_ = std::min(triad_seconds_, seconds_of([&] {
#pragma omp parallel for simd schedule(static)
                                for (int64_t j = 0; j < n; ++j) a[j] = b[j] + 3.0F * c[j];
                              }));
  }
}

double Ceilings::flops_per_second() const {
  constexpr auto kSize = static_cast<double>(kProductSize);
  return 2 * kSize * kSize * kSize / product_seconds_;
}

double Ceilings::bytes_per_second() const {
  return static_cast<double>(3 * a_.size() * sizeof(float)) / triad_seconds_;
}

void PhaseTable::add_step(const core::trace::Recording& recording, double seconds) {
  if (recording.left_out > 0)
    core::fail(core::ExitCode::kInternal,
               {.field = "phases",
                .expected = "all events of a step",
                .found = std::to_string(recording.left_out) + " left out"});
  if (seconds >= seconds_) return;
  seconds_ = seconds;
  phases_.clear();
  for (const core::trace::Thread& thread : recording.threads) {
    for (const core::trace::Event& event : thread.events) {
      Phase& phase = phases_[event.name];
      ++phase.calls;
      phase.seconds += static_cast<double>(event.duration) * 1e-9;
      phase.flops += event.flops;
      phase.bytes += event.bytes;
    }
  }
}

void PhaseTable::print_row(const std::string& name, const Phase& phase,
                           const Ceilings& ceilings) const {
  fmt::print("  {:<20} {:>6} {:>9.1f} {:>5.1f}% {} {}\n", name, phase.calls, 1e3 * phase.seconds,
             100 * phase.seconds / seconds_,
             rate(phase.flops, phase.seconds, ceilings.flops_per_second()),
             rate(phase.bytes, phase.seconds, ceilings.bytes_per_second()));
}

void PhaseTable::print(const Ceilings& ceilings) const {
  fmt::print(
      "  the fastest step, {:.1f} ms; ceilings in this run: gemm 1024^3 {:.0f} GFLOP/s, triad "
      "{:.1f} GB/s\n",
      1e3 * seconds_, ceilings.flops_per_second() * 1e-9, ceilings.bytes_per_second() * 1e-9);
  fmt::print("  {:<20} {:>6} {:>9} {:>6} {:>9} {:>5} {:>9} {:>5}\n", "phase", "calls", "ms",
             "share", "GFLOP/s", "", "GB/s", "");
  std::map<std::string, Phase> rest = phases_;
  Phase other{.calls = 1, .seconds = seconds_};
  for (const auto& [name, phase] : phases_) other.seconds -= phase.seconds;
  for (const char* name : kOrder) {
    const auto at = rest.find(name);
    if (at == rest.end()) continue;
    print_row(name, at->second, ceilings);
    rest.erase(at);
  }
  for (const auto& [name, phase] : rest) print_row(name, phase, ceilings);
  print_row("other", other, ceilings);
  std::fflush(stdout);
}

}  // namespace bench
