#include "model/hf_rope.h"
#include "model/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace model {
namespace {

using Type = RopeParameters::Type;

constexpr double kMaxFactor = 1e6;
constexpr std::array kTypes = {
    std::pair{"default", Type::standard}, std::pair{"linear", Type::linear},
    std::pair{"dynamic", Type::dynamic},  std::pair{"llama3", Type::llama3},
    std::pair{"yarn", Type::yarn},
};

// One block of either spelling: `rope_scaling` (without theta) or `rope_parameters` (with it).
class RopeBlock {
 public:
  RopeBlock(JsonObject& block, double theta, int64_t max_position_embeddings)
      : block_(block), max_position_embeddings_(max_position_embeddings) {
    rope_.theta = block.optional_number("rope_theta", 1e-3, 1e15).value_or(theta);
  }

  RopeParameters read(bool type_required) {
    const std::string name = read_type(type_required);
    const auto partial = block_.optional_number("partial_rotary_factor", 0, 1);
    if (partial && *partial < 1)
      block_.fail("partial_rotary_factor", "1", std::to_string(*partial),
                  "only rotation of whole heads is supported");
    if (rope_.type != Type::standard) rope_.factor = block_.number("factor", 1, kMaxFactor);
    if (rope_.type == Type::llama3) read_llama3();
    if (rope_.type == Type::yarn) read_yarn();
    read_original_context();
    for (const auto& [key, value] : block_.value().items())
      if (!block_.used().contains(key) && !value.is_null())
        block_.fail(key, "no such key with rope type " + name, shown(value));
    return rope_;
  }

 private:
  std::string read_type(bool required) {
    const auto legacy = block_.optional_string("type");
    const auto type = block_.optional_string("rope_type");
    if (required && !type && !legacy) block_.fail("rope_type", "a name", "nothing");
    if (type && legacy && *type != *legacy) block_.fail("type", *type + " as rope_type", *legacy);
    const std::string name = type.value_or(legacy.value_or("default"));
    const auto found =
        std::ranges::find_if(kTypes, [&](const auto& entry) { return name == entry.first; });
    if (found == kTypes.end())
      block_.fail("rope_type", "default, linear, dynamic, llama3 or yarn", name,
                  "other types are not supported");
    rope_.type = found->second;
    return name;
  }

  void read_llama3() {
    rope_.low_freq_factor = block_.number("low_freq_factor", 1e-6, kMaxFactor);
    rope_.high_freq_factor = block_.number("high_freq_factor", 1e-6, kMaxFactor);
    if (rope_.low_freq_factor >= rope_.high_freq_factor)
      block_.fail("high_freq_factor",
                  fmt::format("above low_freq_factor {}", rope_.low_freq_factor),
                  fmt::format("{}", rope_.high_freq_factor));
  }

  void read_yarn() {
    if (rope_.theta <= 1)  // its logarithm divides
      block_.fail("rope_theta", "above 1 with rope type yarn", fmt::format("{}", rope_.theta));
    rope_.beta_fast = positive("beta_fast").value_or(rope_.beta_fast);
    rope_.beta_slow = positive("beta_slow").value_or(rope_.beta_slow);
    if (rope_.beta_fast < rope_.beta_slow)
      block_.fail("beta_fast", fmt::format("at least beta_slow {}", rope_.beta_slow),
                  fmt::format("{}", rope_.beta_fast));
    rope_.truncate = block_.boolean("truncate", true);
    // Both or none: one without the other does nothing.
    const auto of_queries = positive("mscale"), of_all = positive("mscale_all_dim");
    const auto magnitude = [&](double mscale) { return 0.1 * mscale * std::log(rope_.factor) + 1; };
    const double derived =
        of_queries && of_all ? magnitude(*of_queries) / magnitude(*of_all) : magnitude(1);
    rope_.attention_factor = positive("attention_factor").value_or(derived);
  }

  std::optional<double> positive(const char* key) {
    return block_.optional_number(key, 1e-6, kMaxFactor);
  }

  void read_original_context() {
    constexpr const char* kKey = "original_max_position_embeddings";
    if (rope_.type == Type::llama3) {
      rope_.original_max_position_embeddings = block_.integer(kKey, 1, kMaxPosition);
      return;
    }
    const auto original = block_.optional_integer(kKey, 1, kMaxPosition);
    if (rope_.type == Type::standard || rope_.type == Type::linear) return;  // has no meaning there
    rope_.original_max_position_embeddings = original.value_or(max_position_embeddings_);
    // Versions of transformers differ in which of the two they take.
    if (rope_.type == Type::dynamic && original && *original != max_position_embeddings_)
      block_.fail(kKey,
                  fmt::format("max_position_embeddings {} with dynamic", max_position_embeddings_),
                  std::to_string(*original));
  }

  JsonObject& block_;
  int64_t max_position_embeddings_;
  RopeParameters rope_;
};

}  // namespace

RopeParameters read_rope(const std::string& path, JsonObject& json,
                         int64_t max_position_embeddings) {
  const auto top_theta = json.optional_number("rope_theta", 1e-3, 1e15);
  const double theta = top_theta.value_or(RopeParameters{}.theta);
  const nlohmann::json* scaling = json.find("rope_scaling");
  const nlohmann::json* parameters = json.find("rope_parameters");
  RopeParameters rope;
  rope.theta = theta;
  if (scaling != nullptr) {
    JsonObject block(path, "rope_scaling", *scaling);
    rope = RopeBlock(block, theta, max_position_embeddings).read(true);
  }
  if (parameters == nullptr) return rope;
  JsonObject block(path, "rope_parameters", *parameters);
  const RopeParameters newer = RopeBlock(block, theta, max_position_embeddings).read(false);
  if (top_theta && newer.theta != *top_theta)
    block.fail("rope_theta", fmt::format("{} as rope_theta outside", *top_theta),
               fmt::format("{}", newer.theta));
  if (scaling != nullptr) {
    if (!scaling->contains("rope_theta")) rope.theta = newer.theta;
    if (!(newer == rope))
      json.fail("rope_scaling", "the same as rope_parameters " + shown(*parameters),
                shown(*scaling));
  }
  return newer;
}

}  // namespace model
