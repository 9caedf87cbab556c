#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "model/convert.h"
#include "model/hf_mla_config.h"
#include "model/hf_two_norm.h"
#include "model/keep_set.h"

namespace model {
namespace {

constexpr int64_t kMaxRanks = 256;  // that a byte can tell apart

// The one conversion of all layers and heads, as the public code speaks of it.
struct PublicTerms {
  RopeChoice rope;
  LatentMethod method = LatentMethod::none;
  int64_t latent_dims_per_kv_head = 0;
};

class Describer {
 public:
  Describer(const ModelSpec& spec, HfLayout layout, const std::string& origin)
      : spec_(spec), layout_(layout), origin_(origin) {}

  HfMlaDescription run() {
    if (!spec_.is_converted())
      refuse("", "model", "a converted one", "an unconverted one", "export it with --format dense");
    if (public_code_scales_otherwise(spec_))
      refuse("", "attention factor of yarn", "1",
             fmt::format("{:g}", spec_.config.rope.attention_factor),
             "its code applies the factor only to what rotates");
    check_yarn_frequencies();
    const PublicTerms conversion{choice(pairs_per_head()), spec_.attention[0].method,
                                 latent_dims_per_kv_head()};
    return layout_ == HfLayout::v1 ? v1(conversion) : v2(conversion);
  }

 private:
  // The transformers of the public code (4.46) takes max_position_embeddings for the original
  // context of yarn, and always rounds the ends of its ramp.
  void check_yarn_frequencies() const {
    const RopeParameters& rope = spec_.config.rope;
    if (rope.type != RopeParameters::Type::yarn) return;
    if (rope.original_max_position_embeddings != spec_.config.max_position_embeddings)
      refuse("", "original_max_position_embeddings of yarn",
             std::to_string(spec_.config.max_position_embeddings),
             std::to_string(rope.original_max_position_embeddings),
             "its transformers takes max_position_embeddings for it");
    if (!rope.truncate)
      refuse("", "truncate of yarn", "true", "false", "its transformers always rounds");
  }

  [[noreturn]] void refuse(const std::string& place, const std::string& field,
                           const std::string& expected, const std::string& found,
                           const std::string& hint = "") const {
    core::fail(core::ExitCode::kBadConfig,
               {.path = origin_,
                .place = place,
                .field = field,
                .expected = fmt::format("{} for layout {}", expected,
                                        layout_ == HfLayout::v1 ? "v1" : "v2"),
                .found = found,
                .hint = hint});
  }

  void require_family(std::initializer_list<const char*> known) const {
    const std::string& type = spec_.config.model_type;
    if (std::ranges::find(known, type) == known.end())
      refuse("", "model_type", fmt::format("{}", fmt::join(known, ", ")), type,
             type == "qwen2" ? "layout v2 knows Qwen2" : "");
  }

  int64_t pairs_per_head() const {
    const size_t r = spec_.attention[0].kept_pairs[0].size();
    for (size_t l = 0; l < spec_.attention.size(); ++l)
      for (const auto& kept : spec_.attention[l].kept_pairs)
        if (kept.size() != r)
          refuse(fmt::format("layer {}", l), "rotary pairs",
                 fmt::format("{} in every head, as in layer 0", r), std::to_string(kept.size()));
    return static_cast<int64_t>(r);
  }

  int64_t latent_dims_per_kv_head() const {
    const AttentionSpec& first = spec_.attention[0];
    const int64_t heads = spec_.config.num_key_value_heads;
    for (size_t l = 0; l < spec_.attention.size(); ++l) {
      const AttentionSpec& layer = spec_.attention[l];
      if (layer.method != first.method || layer.latent_dims != first.latent_dims)
        refuse(fmt::format("layer {}", l), "latent",
               fmt::format("{} of width {}, as in layer 0", to_string(first.method),
                           first.latent_dims),
               fmt::format("{} of width {}", to_string(layer.method), layer.latent_dims));
    }
    if (first.latent_dims % heads != 0)
      refuse("", "latent width", fmt::format("a multiple of {} kv heads", heads),
             std::to_string(first.latent_dims));
    return first.latent_dims / heads;
  }

  bool keeps(const RopeChoice& choice) const {
    const auto kept =
        kept_pairs(choice, spec_.config.num_key_value_heads, spec_.config.pairs(), nullptr);
    for (const AttentionSpec& layer : spec_.attention)
      if (layer.kept_pairs != kept) return false;
    return true;
  }

  // The strategy that keeps these pairs; 2-norm for those that no rule gives.
  RopeChoice choice(int64_t r) const {
    const int64_t pairs = spec_.config.pairs();
    if (r == pairs) return {RopeStrategy::full, r, 0};
    if (r == 0) return {RopeStrategy::none, r, 0};
    for (const RopeStrategy strategy : {RopeStrategy::high, RopeStrategy::low})
      if (keeps({strategy, r, 0})) return {strategy, r, 0};
    if (pairs % r == 0)
      for (int64_t start = 0; start < pairs / r; ++start)
        if (keeps({RopeStrategy::uniform, r, start})) return {RopeStrategy::uniform, r, start};
    if (layout_ == HfLayout::v1 && keeps({RopeStrategy::high_low, r, 0}))
      return {RopeStrategy::high_low, r, 0};
    return {RopeStrategy::two_norm, r, 0};
  }

  static int version_number(RopeStrategy strategy) {
    switch (strategy) {
      case RopeStrategy::full:
        return 0;
      case RopeStrategy::none:
      case RopeStrategy::high:
        return 1;
      case RopeStrategy::uniform:
        return 2;
      case RopeStrategy::high_low:
        return 3;
      case RopeStrategy::two_norm:
        return 4;
      case RopeStrategy::low:
        return 5;
    }
    return -1;
  }

  HfMlaDescription v1(const PublicTerms& conversion) const {
    const LlamaConfig& c = spec_.config;
    const RopeChoice& rope = conversion.rope;
    require_family({"llama", "mistral"});
    if (c.qkv_bias && conversion.method != LatentMethod::none)
      refuse("", "attention_bias", "false", "true", "layout v2 knows biases");
    const int64_t r = rope.pairs_per_head, pairs = c.pairs();
    const bool low = rope.strategy == RopeStrategy::low;
    const bool both = rope.strategy == RopeStrategy::high_low;
    HfMlaDescription d;
    d.blocks["RoPE"] = {{"partial_rope_version", version_number(rope.strategy)},
                        {"top_k_rope_dim", low    ? 0
                                           : both ? (r + 1) / 2
                                                  : r},
                        {"last_k_rope_dim", low    ? r
                                            : both ? r / 2
                                                   : 0},
                        {"uniform_start_point", rope.uniform_start},
                        {"uniform_step", rope.strategy == RopeStrategy::uniform ? pairs / r : 1},
                        {"qk_tensor_path", two_norm(rope, "qk_tensor.pth", d)},
                        {"n_gqa_group", c.num_attention_heads / c.num_key_value_heads}};
    if (conversion.method != LatentMethod::none)
      d.blocks["SVD"] = {{"method", conversion.method == LatentMethod::joint ? 7 : 2},
                         {"low_rank", conversion.latent_dims_per_kv_head}};
    return d;
  }

  HfMlaDescription v2(const PublicTerms& conversion) const {
    const LlamaConfig& c = spec_.config;
    const RopeChoice& rope = conversion.rope;
    const int64_t r = rope.pairs_per_head;
    require_family({"llama", "mistral", "qwen2"});
    if (c.head_dim * c.num_attention_heads != c.hidden_size)
      refuse("", "head_dim",
             fmt::format("hidden_size {} / {} heads", c.hidden_size, c.num_attention_heads),
             std::to_string(c.head_dim), "layout v1 takes any");
    if (r == 0 || r == c.pairs())
      refuse("", "rotary pairs", fmt::format("1 to {} per head", c.pairs() - 1), std::to_string(r),
             "layout v1 takes none and all");
    if (rope.strategy == RopeStrategy::two_norm && c.pairs() > kMaxRanks)
      refuse("", "head_dim", fmt::format("at most {}", 2 * kMaxRanks), std::to_string(c.head_dim));
    const bool is_two_norm = rope.strategy == RopeStrategy::two_norm;
    HfMlaDescription d;
    d.blocks["mha2mla"] = {
        {"model_name_or_path", nullptr},
        {"partial_rope_version", is_two_norm ? "2-norm" : to_string(rope.strategy)},
        {"rope_dim_for_mla", 2 * r},
        {"uniform_start_point", rope.uniform_start},
        {"qk_tensor_path", two_norm(rope, "qk_rank.pth", d)},
        {"svd_init_method", to_string(conversion.method)},
        {"low_rank", conversion.latent_dims_per_kv_head},
        {"is_baseline", false},
        {"is_gqa2mha2mla", false},
        {"is_mla_from_scratch", false}};
    return d;
  }

  // The value of qk_tensor_path. The public code opens it from the folder that it runs in.
  nlohmann::json two_norm(const RopeChoice& rope, const char* file_name,
                          HfMlaDescription& d) const {
    if (rope.strategy != RopeStrategy::two_norm) return nullptr;
    d.blocks["kept_pairs"] = list_of_pairs(spec_);
    d.file_name = file_name;
    d.file_bytes = format_two_norm(spec_, layout_);
    return file_name;
  }

  const ModelSpec& spec_;
  HfLayout layout_;
  const std::string& origin_;
};

}  // namespace

bool public_code_scales_otherwise(const ModelSpec& spec) {
  const int64_t all = spec.config.num_key_value_heads * spec.config.head_dim;
  return spec.config.rope.attention_factor != 1 &&
         std::ranges::any_of(spec.attention, [&](const AttentionSpec& layer) {
           return layer.rotary_columns() != all;
         });
}

HfMlaDescription describe_hf_mla(const ModelSpec& spec, HfLayout layout,
                                 const std::string& origin) {
  return Describer(spec, layout, origin).run();
}

}  // namespace model
