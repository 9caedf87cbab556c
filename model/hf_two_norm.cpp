#include "model/hf_two_norm.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "model/hf_json.h"
#include "model/keep_set.h"
#include "model/torch_tensor.h"

namespace model {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;
using Pairs = std::vector<int32_t>;

// "1,5,7"; empty for what is no list of pairs.
Pairs parse_pairs(const nlohmann::json& text, int64_t pairs) {
  if (!text.is_string()) return {};
  const auto& characters = text.get_ref<const std::string&>();
  Pairs kept;
  const char *at = characters.data(), *end = at + characters.size();
  while (at < end) {
    int32_t pair = -1;
    const auto [next, error] = std::from_chars(at, end, pair);
    const bool separated = next == end || (*next == ',' && next + 1 < end);
    if (error != std::errc() || pair < 0 || pair >= pairs || !separated) return {};
    kept.push_back(pair);
    at = next == end ? end : next + 1;
  }
  return kept;
}

std::vector<AttentionSpec> read_list(const JsonObject& top, const nlohmann::json& list,
                                     const LlamaConfig& config, int64_t r) {
  const auto refuse = [&](const std::string& expected, const nlohmann::json& found) {
    top.fail("kept_pairs", expected, shown(found));
  };
  const auto is_list_of = [](const nlohmann::json& value, int64_t size) {
    return value.is_array() && value.size() == static_cast<size_t>(size);
  };
  if (!is_list_of(list, config.num_hidden_layers))
    refuse(fmt::format("a list of {} layers", config.num_hidden_layers), list);
  std::vector<AttentionSpec> attention;
  for (const nlohmann::json& layer : list) {
    if (!is_list_of(layer, config.num_key_value_heads))
      refuse(fmt::format("{} kv heads in each layer", config.num_key_value_heads), layer);
    AttentionSpec& spec = attention.emplace_back();
    for (const nlohmann::json& head : layer) {
      spec.kept_pairs.push_back(parse_pairs(head, config.pairs()));
      const Pairs& kept = spec.kept_pairs.back();
      const bool ascending = std::ranges::adjacent_find(kept, std::greater_equal<>()) == kept.end();
      if (static_cast<int64_t>(kept.size()) != r || !ascending)
        refuse(fmt::format("{} ascending pairs below {}, \"1,5,...\"", r, config.pairs()), head);
    }
  }
  return attention;
}

TorchTensor read_tensor(const fs::path& file, const LlamaConfig& config, int64_t columns) {
  TorchTensor tensor = read_torch_tensor(file);
  const std::vector<int64_t> wanted = {config.num_hidden_layers, config.num_key_value_heads,
                                       columns};
  if (tensor.shape != wanted)
    core::fail(ExitCode::kBadData, {.path = file.string(),
                                    .field = "shape",
                                    .expected = fmt::format("[{}]", fmt::join(wanted, ", ")),
                                    .found = fmt::format("[{}]", fmt::join(tensor.shape, ", ")),
                                    .hint = "the file belongs to another model"});
  return tensor;
}

std::vector<AttentionSpec> read_scores(const fs::path& file, const LlamaConfig& config, int64_t r) {
  const TorchTensor scores = read_tensor(file, config, config.pairs());
  if (r < 1 || !std::ranges::all_of(scores.values, [](double s) { return std::isfinite(s); }))
    core::fail(ExitCode::kBadData, {.path = file.string(),
                                    .field = "2-norm scores",
                                    .expected = "finite ones, of which 1 or more pairs are kept",
                                    .found = r < 1 ? "none to keep" : "NaN or infinity"});
  const RopeChoice choice{.strategy = RopeStrategy::two_norm, .pairs_per_head = r};
  std::vector<AttentionSpec> attention;
  const int64_t of_layer = config.num_key_value_heads * config.pairs();
  for (int64_t l = 0; l < config.num_hidden_layers; ++l)
    attention.push_back(
        {.kept_pairs = kept_pairs(choice, config.num_key_value_heads, config.pairs(),
                                  scores.values.data() + l * of_layer)});
  return attention;
}

std::vector<AttentionSpec> read_ranks(const fs::path& file, const LlamaConfig& config, int64_t r) {
  const TorchTensor ranks = read_tensor(file, config, config.head_dim);
  const int64_t pairs = config.pairs();
  std::vector<AttentionSpec> attention;
  const double* rank = ranks.values.data();
  for (int64_t l = 0; l < config.num_hidden_layers; ++l) {
    AttentionSpec& layer = attention.emplace_back();
    for (int64_t g = 0; g < config.num_key_value_heads; ++g, rank += 2 * pairs) {
      Pairs& kept = layer.kept_pairs.emplace_back();
      for (int64_t k = 0; k < pairs; ++k)
        if (rank[k] < static_cast<double>(r)) kept.push_back(static_cast<int32_t>(k));
      if (static_cast<int64_t>(kept.size()) != r || !std::equal(rank, rank + pairs, rank + pairs))
        core::fail(ExitCode::kBadData,
                   {.path = file.string(),
                    .place = fmt::format("layer {}, kv head {}", l, g),
                    .field = "ranks",
                    .expected = fmt::format("{} pairs below {}, the same in both halves", r, r),
                    .found = "others"});
    }
  }
  return attention;
}

}  // namespace

std::vector<AttentionSpec> read_two_norm(const fs::path& folder, const nlohmann::json& document,
                                         const LlamaConfig& config, HfLayout layout,
                                         const std::string& file, int64_t r) {
  JsonObject top((folder / "config.json").string(), "", document);
  const nlohmann::json* list = top.find("kept_pairs");
  std::vector<AttentionSpec> listed;
  if (list != nullptr) listed = read_list(top, *list, config, r);
  // The name alone: where the file lay when the model was converted does not matter.
  const fs::path path = folder / file.substr(file.rfind('/') + 1);
  std::error_code error;
  const bool there = !file.empty() && fs::exists(fs::symlink_status(path, error));
  if (!there && list != nullptr) return listed;
  if (!there)
    core::fail(ExitCode::kMissingInput,
               {.path = folder.string(),
                .field = "qk_tensor_path",
                .expected = "the file that chose the 2-norm pairs, in this folder",
                .found = file.empty() ? "no name of it" : "no " + path.filename().string(),
                .hint = "copy the file that the model was converted with beside config.json"});
  const std::vector<AttentionSpec> read =
      layout == HfLayout::v1 ? read_scores(path, config, r) : read_ranks(path, config, r);
  if (list != nullptr && listed != read)
    core::fail(ExitCode::kBadData, {.path = path.string(),
                                    .field = "2-norm pairs",
                                    .expected = "those of kept_pairs in config.json",
                                    .found = "others"});
  return read;
}

nlohmann::json list_of_pairs(const ModelSpec& spec) {
  nlohmann::json list = nlohmann::json::array();
  for (const AttentionSpec& layer : spec.attention) {
    nlohmann::json& heads = list.emplace_back(nlohmann::json::array());
    for (const Pairs& kept : layer.kept_pairs)
      heads.push_back(fmt::format("{}", fmt::join(kept, ",")));
  }
  return list;
}

std::string format_two_norm(const ModelSpec& spec, HfLayout layout) {
  const LlamaConfig& c = spec.config;
  const auto pairs = static_cast<size_t>(c.pairs());
  std::vector<float> scores;
  std::vector<uint8_t> ranks;
  for (const AttentionSpec& layer : spec.attention)
    for (const Pairs& kept : layer.kept_pairs) {
      std::vector<uint8_t> rank(pairs);
      size_t next_kept = 0, next_other = kept.size();
      for (size_t k = 0; k < pairs; ++k) {
        const bool is_kept = std::ranges::binary_search(kept, static_cast<int32_t>(k));
        scores.push_back(is_kept ? 1.0F : 0.0F);
        rank[k] = static_cast<uint8_t>(is_kept ? next_kept++ : next_other++);
      }
      for (int half = 0; half < 2; ++half) ranks.insert(ranks.end(), rank.begin(), rank.end());
    }
  if (layout == HfLayout::v1)
    return format_torch_tensor({c.num_hidden_layers, c.num_key_value_heads, c.pairs()}, scores);
  return format_torch_tensor({c.num_hidden_layers, c.num_key_value_heads, c.head_dim}, ranks);
}

}  // namespace model
