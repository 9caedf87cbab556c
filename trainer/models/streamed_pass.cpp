#include "trainer/models/streamed_pass.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "trainer/models/id_source.h"

namespace trainer {
namespace {

constexpr int64_t kHiddenBytes = int64_t{256} << 20;

int64_t numel(const WindowBatch& batch, const std::vector<WindowSource>& sets, int64_t width) {
  return batch.count * sets[batch.set].sequence_length * width;
}

}  // namespace

std::vector<WindowGroup> window_groups(const std::vector<WindowSource>& sets, int64_t hidden_size,
                                       int64_t batch) {
  constexpr auto kWide = static_cast<int64_t>(sizeof(float));
  if (batch < 1)
    core::fail(core::ExitCode::kUsage,
               {.field = "--batch", .expected = "at least 1", .found = std::to_string(batch)});
  std::vector<WindowGroup> groups;
  int64_t held = kHiddenBytes;  // full: the first batch opens a group
  for (size_t set = 0; set < sets.size(); ++set) {
    for (int64_t w = 0; w < sets[set].count; w += batch) {
      const WindowBatch next{set, w, std::min(batch, sets[set].count - w)};
      const int64_t bytes = kWide * numel(next, sets, hidden_size);
      if (held + bytes > kHiddenBytes) {
        groups.emplace_back();
        held = 0;
      }
      groups.back().push_back(next);
      held += bytes;
    }
  }
  return groups;
}

StreamedPass::StreamedPass(model::WeightReader& weights, const std::vector<WindowSource>& sets,
                           ag::DType compute, const std::string& title, size_t groups)
    : weights_(weights),
      sets_(sets),
      compute_(compute),
      progress_(title, groups * static_cast<uint64_t>(weights.spec().config.num_hidden_layers),
                "layers") {}

std::vector<PassedWindow> StreamedPass::run(const WindowGroup& group,
                                            const model::QueryKeyObserver& observe) {
  std::vector<model::TextBatch> texts;
  for (const WindowBatch& b : group)
    texts.push_back({read_windows(sets_[b.set], b.first, b.count), b.count});
  const std::vector<ag::Tensor> hidden = model::streamed_hidden(
      weights_, compute_, texts, observe, [&](int64_t) { progress_.update(++layers_done_); });
  std::vector<PassedWindow> windows;
  for (size_t i = 0; i < group.size(); ++i) {
    const int64_t length = sets_[group[i].set].sequence_length, width = hidden[i].cols();
    const std::vector<int32_t> ids = texts[i].ids.to_host<int32_t>();
    for (int64_t w = 0; w < group[i].count; ++w)
      windows.push_back({group[i].set,
                         group[i].first + w,
                         {ids.begin() + w * length, ids.begin() + (w + 1) * length},
                         hidden[i].slice(w * length * width, {length, width})});
  }
  return windows;
}

LossSums::LossSums(const std::vector<WindowSource>& sets) {
  for (const WindowSource& set : sets) {
    require_windows(set, 1);
    sets_.push_back({.name = set.name,
                     .tokens = set.count * (set.sequence_length - 1),
                     .protocol = set.protocol});
  }
}

void LossSums::add(model::Head& head, const std::vector<PassedWindow>& windows) {
  for (const PassedWindow& w : windows) {
    const auto targets = static_cast<int64_t>(w.ids.size()) - 1;
    const ag::Tensor rows = w.hidden.slice(0, {targets, w.hidden.cols()});
    const ag::Tensor wanted =
        ag::Tensor::from_host<int32_t>({targets}, std::span(w.ids).subspan(1));
    double sum = 0;
    for (const double loss : head.losses(rows, wanted)) sum += loss;
    sets_[w.set].nll += sum;
  }
}

SetResult LossSums::mean() const {
  std::vector<SetResult> means = sets_;
  for (SetResult& set : means) set.nll /= static_cast<double>(set.tokens);
  return combine(means);
}

}  // namespace trainer
