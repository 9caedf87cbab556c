#include "model/hf_mla_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "model/hf_json.h"
#include "model/hf_two_norm.h"

namespace model {
namespace {

namespace fs = std::filesystem;
using Pairs = std::vector<int32_t>;

constexpr int64_t kMaxWidth = int64_t{1} << 24;
constexpr int64_t kMaxQueryRows = int64_t{1} << 22;  // of all layers: each has a place in a list

// The first pairs, and the last.
Pairs ends(int64_t first, int64_t last, int64_t pairs) {
  Pairs kept(static_cast<size_t>(first + last));
  const auto middle = kept.begin() + first;
  std::iota(kept.begin(), middle, 0);
  std::iota(middle, kept.end(), static_cast<int32_t>(pairs - last));
  return kept;
}

class Reader {
 public:
  Reader(fs::path folder, const nlohmann::json& document, const LlamaConfig& config)
      : folder_(std::move(folder)), document_(document), config_(config) {}

  HfMla read_v1(JsonObject& rope, JsonObject* svd) {
    HfMla mla{.layout = HfLayout::v1, .attention = {}};
    read_version_1(rope, mla.attention);
    const int64_t method = svd == nullptr ? 0 : svd->integer("method", 0, 7);
    if (method == 0) return mla;
    set_latent(*svd, method == 2 || method == 3 ? LatentMethod::split : LatentMethod::joint, mla);
    return mla;
  }

  HfMla read_v2(JsonObject& block) {
    HfMla mla{.layout = HfLayout::v2, .attention = {}};
    const int64_t heads = config_.num_hidden_layers * config_.num_attention_heads;
    if (heads > kMaxQueryRows / config_.head_dim)
      block.fail("num_hidden_layers * num_attention_heads * head_dim",
                 fmt::format("at most {}", kMaxQueryRows),
                 fmt::format("{} * {}", heads, config_.head_dim));
    if (block.boolean("is_gqa2mha2mla", false))
      block.fail("is_gqa2mha2mla", "false", "true", "its keys have other heads than its values");
    const int64_t dims = block.integer("rope_dim_for_mla", 2, config_.head_dim - 2);
    if (dims % 2 != 0) block.fail("rope_dim_for_mla", "an even number", std::to_string(dims));
    read_version_2(block, dims / 2, mla.attention);
    const std::string method = block.optional_string("svd_init_method").value_or("none");
    if (method == "none") return mla;
    if (method != "joint" && method != "split")
      block.fail("svd_init_method", "joint, split or none", method);
    set_latent(block, method == "joint" ? LatentMethod::joint : LatentMethod::split, mla);
    return mla;
  }

 private:
  void set_latent(JsonObject& block, LatentMethod method, HfMla& mla) const {
    const int64_t c = block.integer("low_rank", 1, kMaxWidth / config_.num_key_value_heads);
    for (AttentionSpec& layer : mla.attention) {
      layer.method = method;
      layer.latent_dims = c * config_.num_key_value_heads;
    }
  }

  void same_everywhere(const Pairs& kept, std::vector<AttentionSpec>& attention) const {
    const std::vector<Pairs> heads(static_cast<size_t>(config_.num_key_value_heads), kept);
    attention.assign(static_cast<size_t>(config_.num_hidden_layers), {.kept_pairs = heads});
  }

  // 0 full, 1 high, 2 uniform, 3 high and low, 4 2-norm, 5 low; numbers of pairs throughout.
  void read_version_1(JsonObject& rope, std::vector<AttentionSpec>& attention) {
    const int64_t pairs = config_.pairs();
    const auto count = [&](const char* key) { return rope.integer(key, 0, pairs); };
    switch (version_number(rope)) {
      case 0:
        return same_everywhere(ends(pairs, 0, pairs), attention);
      case 1:
        return same_everywhere(ends(count("top_k_rope_dim"), 0, pairs), attention);
      case 2:
        return same_everywhere(uniform(rope, rope.integer("uniform_step", 1, pairs)), attention);
      case 3: {
        const int64_t first = count("top_k_rope_dim");
        const int64_t last = rope.integer("last_k_rope_dim", 0, pairs - first);
        return same_everywhere(ends(first, last, pairs), attention);
      }
      case 4:
        return two_norm(rope, count("top_k_rope_dim"), HfLayout::v1, attention);
      case 5:
        return same_everywhere(ends(0, count("last_k_rope_dim"), pairs), attention);
      default:
        rope.fail("partial_rope_version", "0 to 5",
                  shown(rope.value().value("partial_rope_version", nlohmann::json())),
                  "the public code has no converted model of another version");
    }
  }

  static int64_t version_number(JsonObject& rope) {
    constexpr std::pair<const char*, int64_t> kNames[] = {
        {"full-rope", 0}, {"high", 1}, {"uniform", 2}, {"2-norm", 4}, {"low", 5}};
    const nlohmann::json* version = rope.find("partial_rope_version");
    if (version != nullptr && version->is_number_integer()) return version->get<int64_t>();
    const std::string name = rope.optional_string("partial_rope_version").value_or("");
    for (const auto& [known, number] : kNames)
      if (name == known) return number;
    return -1;
  }

  void read_version_2(JsonObject& block, int64_t r, std::vector<AttentionSpec>& attention) {
    const int64_t pairs = config_.pairs();
    const std::string version = block.optional_string("partial_rope_version").value_or("");
    if (version == "high") {
      same_everywhere(ends(r, 0, pairs), attention);
    } else if (version == "low") {
      same_everywhere(ends(0, r, pairs), attention);
    } else if (version == "uniform") {
      if (pairs % r != 0)
        block.fail("rope_dim_for_mla", fmt::format("a divisor of head_dim {}", config_.head_dim),
                   std::to_string(2 * r));
      same_everywhere(uniform(block, pairs / r), attention);
    } else if (version == "2-norm" || version == "2_norm") {
      two_norm(block, r, HfLayout::v2, attention);
    } else {
      block.fail("partial_rope_version", "high, low, uniform or 2-norm", "\"" + version + "\"");
    }
  }

  Pairs uniform(JsonObject& block, int64_t step) const {
    const int64_t pairs = config_.pairs();
    const int64_t start = block.optional_integer("uniform_start_point", 0, step - 1).value_or(0);
    if (pairs % step != 0)
      block.fail("uniform_step", fmt::format("a divisor of {} pairs", pairs), std::to_string(step),
                 "other steps rotate only one column of a pair");
    Pairs kept;
    for (int64_t k = start; k < pairs; k += step) kept.push_back(static_cast<int32_t>(k));
    return kept;
  }

  void two_norm(JsonObject& block, int64_t r, HfLayout layout,
                std::vector<AttentionSpec>& attention) const {
    const std::string file = block.optional_string("qk_tensor_path").value_or("");
    attention = read_two_norm(folder_, document_, config_, layout, file, r);
  }

  fs::path folder_;
  const nlohmann::json& document_;
  const LlamaConfig& config_;
};

void note_unused(const JsonObject& block, const std::string& name,
                 std::initializer_list<const char*> harmless, std::vector<std::string>* ignored) {
  if (ignored == nullptr) return;
  for (const auto& [key, value] : block.value().items())
    if (!block.used().contains(key) && std::ranges::find(harmless, key) == harmless.end())
      ignored->push_back(name + "." + key);
}

}  // namespace

std::optional<HfMla> read_hf_mla(const fs::path& folder, const nlohmann::json& document,
                                 const LlamaConfig& config,
                                 std::vector<std::string>* ignored_keys) {
  const std::string path = (folder / "config.json").string();
  JsonObject top(path, "", document);
  const nlohmann::json *rope = top.find("RoPE"), *svd = top.find("SVD"),
                       *mha2mla = top.find("mha2mla");
  if (mha2mla != nullptr && rope != nullptr) top.fail("mha2mla", "one of mha2mla and RoPE", "both");
  if (svd != nullptr && rope == nullptr) top.fail("RoPE", "an object beside SVD", "nothing");
  Reader reader(folder, document, config);
  if (mha2mla != nullptr) {
    JsonObject block(path, "mha2mla", *mha2mla);
    if (block.boolean("is_baseline", false)) return std::nullopt;
    HfMla mla = reader.read_v2(block);
    note_unused(block, "mha2mla",
                {"model_name_or_path", "uniform_start_point", "qk_tensor_path", "low_rank",
                 "is_mla_from_scratch"},
                ignored_keys);
    return mla;
  }
  if (rope == nullptr) return std::nullopt;
  JsonObject rope_block(path, "RoPE", *rope);
  std::optional<JsonObject> svd_block;
  if (svd != nullptr) svd_block.emplace(path, "SVD", *svd);
  HfMla mla = reader.read_v1(rope_block, svd_block ? &*svd_block : nullptr);
  note_unused(rope_block, "RoPE",
              {"top_k_rope_dim", "last_k_rope_dim", "uniform_start_point", "uniform_step",
               "qk_tensor_path", "n_gqa_group"},
              ignored_keys);
  if (svd_block) note_unused(*svd_block, "SVD", {"low_rank"}, ignored_keys);
  return mla;
}

}  // namespace model
