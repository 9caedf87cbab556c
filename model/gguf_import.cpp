#include "model/gguf_import.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "autograd/kernels/kernels.h"
#include "core/error.h"
#include "core/file.h"
#include "model/gguf_config.h"
#include "model/hf_config.h"

namespace model {
namespace {

using core::ExitCode;

constexpr std::pair<const char*, const char*> kGgufTop[] = {
    {"embed", "token_embd"}, {"norm", "output_norm"}, {"lm_head", "output"}};
constexpr std::pair<const char*, const char*> kGgufInLayer[] = {
    {"attn_norm", "attn_norm"}, {"attn.q", "attn_q"},      {"attn.k", "attn_k"},
    {"attn.v", "attn_v"},       {"attn.o", "attn_output"}, {"mlp_norm", "ffn_norm"},
    {"mlp.gate", "ffn_gate"},   {"mlp.up", "ffn_up"},      {"mlp.down", "ffn_down"}};

// "layers.3.attn.o.weight" -> "blk.3.attn_output.weight"
std::string gguf_name_of_path(const std::string& path) {
  const size_t suffix = path.rfind('.');
  std::string stem = path.substr(0, suffix), prefix;
  std::span<const std::pair<const char*, const char*>> names = kGgufTop;
  if (stem.starts_with("layers.")) {
    const size_t dot = stem.find('.', 7);
    prefix = "blk." + stem.substr(7, dot - 7) + ".";
    stem = stem.substr(dot + 1);
    names = kGgufInLayer;
  }
  for (const auto& [ours, theirs] : names)
    if (stem == ours) return prefix + theirs + path.substr(suffix);
  CHECK_ARGUMENT("gguf", false, "a parameter of an unconverted model", path);
  return {};
}

// GGUF files of this architecture hold the rows of q and k with the two columns of a pair next to
// each other: row h D + 2 i + s of the file is row h D + s P + i here.
struct RowOrder {
  int64_t head_dim = 0;  // 0: as they are

  int64_t operator()(int64_t row) const {
    if (head_dim == 0) return row;
    const int64_t in_head = row % head_dim;
    return row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
  }
};

bool is_paired(const std::string& path) {
  return path.find(".attn.q.") != std::string::npos || path.find(".attn.k.") != std::string::npos;
}

class Importer {
 public:
  Importer(const std::string& path, std::span<const std::byte> file)
      : path_(path), gguf_(parse_gguf(path, file)) {}

  GgufModel import() {
    GgufModel result;
    result.config_json = gguf_config_json(gguf_, result.notes);
    const LlamaConfig config = parse_hf_config(path_, result.config_json);
    result.model.spec = ModelSpec::unconverted(config);
    result.tokenizer = gguf_tokenizer(gguf_.metadata, config.vocab_size);
    if (!result.tokenizer.refusal.empty())
      result.notes.push_back("no tokenizer: " + result.tokenizer.refusal);
    const std::vector<ParameterShape> wanted = parameter_shapes(result.model.spec);
    check_names(wanted);
    for (const ParameterShape& p : wanted)
      result.model.weights.emplace(p.path, load(gguf_name_of_path(p.path), p, config));
    check_weights(result.model.spec, result.model.weights, path_);
    return result;
  }

 private:
  [[noreturn]] void refuse(const std::string& tensor, const char* field, std::string expected,
                           std::string found) const {
    core::fail(ExitCode::kBadData, {.path = path_,
                                    .place = tensor,
                                    .field = field,
                                    .expected = std::move(expected),
                                    .found = std::move(found)});
  }

  void check_names(const std::vector<ParameterShape>& wanted) const {
    std::set<std::string> names = {"rope_freqs.weight"};
    for (const ParameterShape& p : wanted) {
      const std::string name = *names.insert(gguf_name_of_path(p.path)).first;
      const auto found = gguf_.tensors.find(name);
      if (found == gguf_.tensors.end()) refuse(name, "tensor", to_string(p.shape), "nothing");
      std::vector<int64_t> shape;
      for (int i = 0; i < p.shape.rank(); ++i) shape.push_back(p.shape[i]);
      if (found->second.shape != shape)
        refuse(name, "shape", to_string(p.shape) + " as the metadata says",
               to_string(found->second));
    }
    for (const auto& [name, tensor] : gguf_.tensors)
      if (!names.contains(name))
        refuse(name, "tensor", "only those of a Llama model",
               "an unknown one of shape " + to_string(tensor));
  }

  ag::Tensor load(const std::string& name, const ParameterShape& p,
                  const LlamaConfig& config) const {
    const GgufTensor& stored = gguf_.tensors.at(name);
    const RowOrder order{is_paired(p.path) ? config.head_dim : 0};
    const ag::Tensor tensor = std::string_view(stored.block->name) == "BF16"
                                  ? load_bf16(stored, p.shape, order)
                                  : load_f32(stored, p.shape, order);
    if (ag::kernels(tensor.device()).count_nonfinite(tensor) > 0) refuse_nonfinite(name, stored);
    return tensor;
  }

  // A bias is a column here: its rows are its elements.
  static int64_t row_length(const ag::Shape& shape) { return shape.rank() == 2 ? shape[1] : 1; }

  static ag::Tensor load_bf16(const GgufTensor& stored, const ag::Shape& shape, RowOrder order) {
    ag::Tensor tensor = ag::Tensor::empty(shape, ag::DType::bf16);
    const int64_t length = row_length(shape), bytes = length * 2;
    for (int64_t row = 0; row < shape[0]; ++row)
      tensor.slice(order(row) * length, {length}).copy_from(stored.bytes.data() + row * bytes);
    return tensor;
  }

  static ag::Tensor load_f32(const GgufTensor& stored, const ag::Shape& shape, RowOrder order) {
    ag::Tensor tensor = ag::Tensor::empty(shape, ag::DType::f32);
    // Whole blocks at a time: a row of a matrix, all of a vector.
    const auto length = static_cast<uint64_t>(stored.shape.back());
    const uint64_t bytes = length / stored.block->elements * stored.block->bytes;
    const auto rows = static_cast<int64_t>(stored.elements() / length);
    const int64_t width = row_length(shape);
    std::vector<float> values(length);
    for (int64_t row = 0; row < rows; ++row) {
      decode_gguf_blocks(*stored.block,
                         stored.bytes.subspan(static_cast<uint64_t>(row) * bytes, bytes), values);
      for (int64_t i = 0; i < static_cast<int64_t>(length); i += width)
        tensor.slice(order(row + i / width) * width, {width}).copy_from(values.data() + i);
    }
    return tensor;
  }

  // Names the block whose scale, or the element that, is not finite.
  [[noreturn]] void refuse_nonfinite(const std::string& name, const GgufTensor& stored) const {
    const GgufBlock& block = *stored.block;
    std::vector<float> values(block.elements);
    for (uint64_t b = 0; (b + 1) * block.bytes <= stored.bytes.size(); ++b) {
      decode_gguf_blocks(block, stored.bytes.subspan(b * block.bytes, block.bytes), values);
      for (const float value : values)
        if (!std::isfinite(value))
          refuse(name, "values", "finite numbers",
                 fmt::format("NaN or infinity in {} {} of {}",
                             block.quantized() ? "block" : "element", b, block.name));
    }
    refuse(name, "values", "finite numbers", "others");
  }

  std::string path_;
  GgufHeader gguf_;
};

}  // namespace

GgufModel import_gguf(const std::string& path, std::span<const std::byte> file) {
  return Importer(path, file).import();
}

GgufModel import_gguf(const std::filesystem::path& file) {
  const core::MappedFile mapped(file);
  return import_gguf(file.string(), mapped.bytes());
}

GgufTokenizer read_gguf_tokenizer(const std::filesystem::path& file) {
  const core::MappedFile mapped(file);
  const GgufHeader gguf = parse_gguf(file.string(), mapped.bytes());
  const auto embedding = gguf.tensors.find("token_embd.weight");
  if (embedding == gguf.tensors.end() || embedding->second.shape.size() != 2)
    core::fail(ExitCode::kBadData, {.path = file,
                                    .place = "token_embd.weight",
                                    .field = "tensor",
                                    .expected = "a matrix",
                                    .found = "none"});
  GgufTokenizer tokenizer = gguf_tokenizer(gguf.metadata, embedding->second.shape[0]);
  if (!tokenizer.refusal.empty()) throw core::Error(ExitCode::kBadData, tokenizer.refusal);
  return tokenizer;
}

}  // namespace model
