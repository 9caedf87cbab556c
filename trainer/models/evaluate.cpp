#include "trainer/models/evaluate.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "core/error.h"
#include "core/stop.h"
#include "trainer/ranks/comm.h"

namespace trainer {
namespace {

// Sum of the losses of each of windows [first, first + n) to `sums` [n].
void add_window_losses(model::Llama& model, const WindowSource& windows, int64_t first, int64_t n,
                       double* sums) {
  const int64_t s = windows.sequence_length, targets = s - 1;
  const std::vector<int32_t> ids = read_windows(windows, first, n).to_host<int32_t>();
  std::vector<int32_t> x, y;
  for (auto row = ids.begin(); row != ids.end(); row += s) {
    x.insert(x.end(), row, row + targets);
    y.insert(y.end(), row + 1, row + s);
  }
  ag::Tape tape(ag::Tape::Mode::kOff);
  ag::Tensor row_loss;
  model.loss(tape, ag::Tensor::from_host<int32_t>({n * targets}, x),
             ag::Tensor::from_host<int32_t>({n * targets}, y), n,
             {.gradient_scale = 1, .row_loss = &row_loss});
  const std::vector<double> losses = row_loss.to_host<double>();
  for (int64_t w = 0; w < n; ++w) {
    double sum = 0;
    for (int64_t t = 0; t < targets; ++t) sum += losses[static_cast<size_t>(w * targets + t)];
    sums[w] = sum;
  }
}

// Which windows belong to `rank`: whole batches, because the bits of a row may depend on the rows
// that go through the model with it.
std::pair<int64_t, int64_t> share(const WindowSource& windows, int64_t batch, int64_t rank,
                                  int64_t ranks) {
  const int64_t batches = (windows.count + batch - 1) / batch;
  const auto edge = [&](int64_t r) { return std::min(windows.count, batches * r / ranks * batch); };
  return {edge(rank), edge(rank + 1)};
}

}  // namespace

void require_windows(const WindowSource& windows, int64_t batch) {
  const auto require = [&](const char* field, int64_t value, int64_t least) {
    if (value < least)
      core::fail(core::ExitCode::kBadConfig, {.path = windows.name,
                                              .field = field,
                                              .expected = "at least " + std::to_string(least),
                                              .found = std::to_string(value)});
  };
  require("sequence_length", windows.sequence_length, 2);
  require("windows", windows.count, 1);
  require("batch", batch, 1);
}

ag::Tensor read_windows(const WindowSource& windows, int64_t first, int64_t n) {
  std::vector<int32_t> ids(static_cast<size_t>(n * windows.sequence_length));
  for (int64_t w = 0; w < n; ++w) windows.read(first + w, ids.data() + w * windows.sequence_length);
  return ag::Tensor::from_host<int32_t>({static_cast<int64_t>(ids.size())}, ids);
}

SetResult evaluate(model::Llama& model, const WindowSource& windows, int64_t batch, Comm* comm,
                   const std::function<void(int64_t)>& progress) {
  require_windows(windows, batch);
  const int64_t ranks = comm == nullptr ? 1 : comm->size();
  const auto [begin, end] = share(windows, batch, comm == nullptr ? 0 : comm->rank(), ranks);
  std::vector<double> sums(static_cast<size_t>(windows.count));
  const auto work = [&, begin = begin, end = end] {
    for (int64_t w = begin; w < end; w += batch) {
      core::throw_if_stopping();
      const int64_t n = std::min(batch, end - w);
      add_window_losses(model, windows, w, n, sums.data() + w);
      if (progress) progress(w + n - begin);
    }
  };
  if (comm == nullptr) {
    work();
  } else {
    comm->run_agreed(work);
    for (int64_t r = 0; r < ranks; ++r) {
      const auto [first, last] = share(windows, batch, r, ranks);
      comm->broadcast(std::span<double>(sums.data() + first, static_cast<size_t>(last - first)),
                      static_cast<int>(r));
    }
  }
  SetResult result{.name = windows.name,
                   .tokens = windows.count * (windows.sequence_length - 1),
                   .protocol = windows.protocol};
  for (const double sum : sums) result.nll += sum;
  result.nll /= static_cast<double>(result.tokens);
  result.ppl = std::exp(result.nll);
  return result;
}

SetResult evaluate(model::Llama& model, const data::EvalWindows& windows, const std::string& name,
                   int64_t batch, Comm* comm, const std::function<void(int64_t)>& progress) {
  return evaluate(
      model,
      WindowSource{.name = name,
                   .protocol = windows.protocol(),
                   .count = windows.count(),
                   .sequence_length = windows.sequence_length(),
                   .read = [&](int64_t index, int32_t* out) { windows.read(index, out); }},
      batch, comm, progress);
}

SetResult combine(const std::vector<SetResult>& sets) {
  SetResult all{.name = "all", .protocol = {}};
  for (const SetResult& set : sets) {
    all.nll += set.nll * static_cast<double>(set.tokens);
    all.tokens += set.tokens;
    if (all.protocol.find(set.protocol) == std::string::npos)
      all.protocol += (all.protocol.empty() ? "" : "; ") + set.protocol;
  }
  all.nll /= static_cast<double>(all.tokens);
  all.ppl = std::exp(all.nll);
  return all;
}

}  // namespace trainer
