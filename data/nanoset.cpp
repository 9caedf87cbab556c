#include "data/nanoset.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/hash.h"

namespace data {
namespace {

using core::ExitCode;

int64_t require_range(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high)
    core::fail(ExitCode::kBadConfig, {.field = field,
                                      .expected = fmt::format("an integer in [{}, {}]", low, high),
                                      .found = std::to_string(value)});
  return value;
}

}  // namespace

Nanoset::Nanoset(const NanosetConfig& config)
    : sequence_length_(
          require_range("sequence_length", config.sequence_length, 1, int64_t{1} << 40)),
      samples_needed_(require_range("samples needed", config.samples_needed, 1, INT64_MAX)),
      seed_(static_cast<uint32_t>(require_range("data.seed", config.seed, 0, UINT32_MAX))) {
  if (config.folders.empty())
    core::fail(
        ExitCode::kBadConfig,
        {.field = "dataset_folder", .expected = "at least one dataset", .found = "an empty list"});
  for (const std::filesystem::path& folder : config.folders)
    datasets_.emplace_back(folder, sequence_length_ + 1, config.vocab_size);
  refuse_files_listed_twice();
  weights_ = resolve_weights(config.weights);
  std::vector<int64_t> sizes;
  for (const ShardSet& dataset : datasets_) sizes.push_back(dataset.windows());
  order_ = mixture_order(weights_, sizes, seed_);
}

void Nanoset::refuse_files_listed_twice() const {
  std::set<std::filesystem::path> seen;
  for (const ShardSet& dataset : datasets_)
    for (const Shard& shard : dataset.shards()) {
      std::error_code error;
      const std::filesystem::path real = std::filesystem::canonical(shard.path(), error);
      if (error) core::fail_errno("resolve", shard.path(), error.value());
      if (!seen.insert(real).second)
        core::fail(ExitCode::kBadData, {.path = shard.path(),
                                        .field = "dataset_folder",
                                        .expected = "every shard once",
                                        .found = "a shard that is listed twice",
                                        .hint = "raise its weight instead"});
    }
}

std::vector<double> Nanoset::resolve_weights(const std::vector<double>& given) const {
  if (given.empty()) {
    std::vector<double> sizes;
    for (const ShardSet& dataset : datasets_)
      sizes.push_back(static_cast<double>(dataset.windows()));
    return normalize_weights(sizes);
  }
  if (given.size() != datasets_.size())
    core::fail(ExitCode::kBadConfig,
               {.field = "dataset_weights",
                .expected = "one for each of " + std::to_string(datasets_.size()) + " datasets",
                .found = std::to_string(given.size())});
  return normalize_weights(given);
}

double Nanoset::epochs() const {
  return static_cast<double>(samples_needed_) / static_cast<double>(samples_per_epoch());
}

Nanoset::Origin Nanoset::origin(int64_t index) const {
  if (index < 0 || index >= samples_needed_)
    core::fail(ExitCode::kInternal, {.field = "sample index",
                                     .expected = "below " + std::to_string(samples_needed_),
                                     .found = std::to_string(index)});
  const auto i = static_cast<size_t>(index % order_.size());
  return {order_.dataset[i], order_.sample[i]};
}

void Nanoset::sample(int64_t index, int32_t* out) const {
  const Origin from = origin(index);
  datasets_[static_cast<size_t>(from.dataset)].read(from.sample, out);
}

void Nanoset::check_vocab(int64_t vocab_size) const {
  for (const ShardSet& dataset : datasets_) dataset.check_vocab(vocab_size);
}

nlohmann::json Nanoset::describe() const {
  nlohmann::json datasets = nlohmann::json::array();
  for (size_t j = 0; j < datasets_.size(); ++j) {
    nlohmann::json dataset = datasets_[j].describe();
    dataset["weight"] = weights_[j];
    dataset["samples"] = datasets_[j].windows();
    dataset["tokens"] = datasets_[j].tokens();
    datasets.push_back(std::move(dataset));
  }
  return {{"sequence_length", sequence_length_},      {"seed", seed_},
          {"samples_per_epoch", samples_per_epoch()}, {"samples_needed", samples_needed_},
          {"datasets", std::move(datasets)},          {"fingerprint", fingerprint()}};
}

std::string Nanoset::fingerprint() const {
  core::Hasher hasher;
  hasher.update(&sequence_length_, sizeof sequence_length_);
  hasher.update(&seed_, sizeof seed_);
  hasher.update(weights_.data(), weights_.size() * sizeof(double));
  for (const ShardSet& dataset : datasets_) {
    const std::string content = dataset.fingerprint();
    hasher.update(content.data(), content.size());
  }
  return hasher.hex();
}

}  // namespace data
