// config.json of a Hugging Face model, and what its numbers promise the rest of the program.
#include <nlohmann/json.hpp>

#include "model/hf_config.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text = fuzz::text_of(data, size);
  model::LlamaConfig c;
  std::vector<std::string> ignored;
  if (!fuzz::accepts([&] { c = model::parse_hf_config("config.json", text, &ignored); })) return 0;
  fuzz::require(nlohmann::json::accept(text), "an accepted config.json is JSON");
  fuzz::require(c.num_hidden_layers >= 1 && c.num_hidden_layers <= 1024, "1 to 1024 layers");
  fuzz::require(c.num_key_value_heads >= 1 && c.num_attention_heads % c.num_key_value_heads == 0,
                "heads share key-value heads evenly");
  fuzz::require(c.head_dim >= 2 && c.head_dim % 2 == 0, "an even width of heads");
  fuzz::require(c.vocab_size >= 1 && c.hidden_size >= 1 && c.intermediate_size >= 1, "sizes");
  fuzz::require(c.rope.theta > 0 && c.rope.factor > 0 && c.rms_norm_eps > 0, "positive numbers");
  const model::ModelSpec spec = model::ModelSpec::unconverted(c);
  fuzz::require(spec.parameter_count() > 0, "the number of parameters can be counted");
  fuzz::require(spec.cache_elements_per_token() > 0, "the size of the cache can be counted");
  return 0;
}
