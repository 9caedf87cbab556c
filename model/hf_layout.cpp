#include "model/hf_layout.h"

#include <array>
#include <cstring>
#include <numeric>
#include <string_view>

#include "core/error.h"
#include "model/hf_names.h"
#include "model/rope.h"

namespace model {
namespace {

struct Name {
  std::string_view path, v1, v2;  // below layers.N. and model.layers.N.self_attn.
};
constexpr std::array kLatentNames = {
    Name{"attn.k_rope.", "W_k_r.", "k_r_proj."},
    Name{"attn.kv_down.", "W_down_k.", "kv_proj.down_kv."},
    Name{"attn.k_down.", "W_down_k.", "kv_proj.down_k."},
    Name{"attn.v_down.", "W_down_v.", "kv_proj.down_v."},
    Name{"attn.k_up.", "W_up_k.", "kv_proj.up_k."},
    Name{"attn.v_up.", "W_up_v.", "kv_proj.up_v."},
};

// Rows of q or k, head by head: those that rotate and the others, both in the source's order.
struct Rows {
  std::vector<int64_t> rotary, nope;
};

Rows split_rows(const AttentionSpec& layer, int64_t heads_per_kv_head, int64_t head_dim) {
  Rows rows;
  int64_t begin = 0;
  for (const auto& kept : layer.kept_pairs)
    for (int64_t h = 0; h < heads_per_kv_head; ++h, begin += head_dim) {
      for (const int32_t c : rotary_columns(kept, head_dim)) rows.rotary.push_back(begin + c);
      for (const int32_t c : nope_columns(kept, head_dim)) rows.nope.push_back(begin + c);
    }
  return rows;
}

class Table {
 public:
  Table(const ModelSpec& spec, HfLayout layout) : spec_(spec), layout_(layout) {}

  std::vector<HfTensor> list() {
    for (const ParameterShape& p : parameter_shapes(spec_)) {
      if (const auto latent = latent_name(p.path)) {
        add(*latent, p, {});
      } else if (layout_ != HfLayout::v2 || !add_v2(p)) {
        add(*hf_name_of_path(p.path), p, {});
      }
    }
    return std::move(list_);
  }

 private:
  static std::string in_layer(const std::string& path, std::string_view below) {
    const size_t end = path.find('.', path.find('.') + 1);
    return "model." + path.substr(0, end + 1) + "self_attn." + std::string(below);
  }

  std::optional<std::string> latent_name(const std::string& path) const {
    for (const Name& n : kLatentNames) {
      const size_t at = path.find(n.path);
      if (at == std::string::npos) continue;
      const std::string_view name = layout_ == HfLayout::v1 ? n.v1 : n.v2;
      return in_layer(path, name) + path.substr(at + n.path.size());
    }
    return std::nullopt;
  }

  // q, and without a latent k and v, have an order and names of their own in v2.
  bool add_v2(const ParameterShape& p) {
    const LlamaConfig& c = spec_.config;
    const auto is = [&](const char* part) { return p.path.find(part) != std::string::npos; };
    if (!is(".attn.q.") && !is(".attn.k.") && !is(".attn.v.")) return false;
    const std::string suffix = p.path.substr(p.path.rfind('.') + 1);
    const AttentionSpec& layer = spec_.attention[static_cast<size_t>(layer_of(p.path))];
    if (is(".attn.q.")) {
      const Rows rows =
          split_rows(layer, c.num_attention_heads / c.num_key_value_heads, c.head_dim);
      std::vector<int64_t> order = rows.rotary;
      order.insert(order.end(), rows.nope.begin(), rows.nope.end());
      add(*hf_name_of_path(p.path), p, order);
    } else if (is(".attn.k.")) {
      const Rows rows = split_rows(layer, 1, c.head_dim);
      add(in_layer(p.path, "k_r_proj.") + suffix, p, rows.rotary);
      add(in_layer(p.path, "kv_proj.up_k.") + suffix, p, rows.nope);
    } else {
      add(in_layer(p.path, "kv_proj.up_v.") + suffix, p, {});
    }
    return true;
  }

  void add(const std::string& name, const ParameterShape& p, const std::vector<int64_t>& rows) {
    const auto count = static_cast<int64_t>(rows.size());
    ag::Shape shape = p.shape;
    if (count > 0) shape = p.shape.rank() == 1 ? ag::Shape{count} : ag::Shape{count, p.shape[1]};
    list_.push_back({name, p.path, shape, rows});
  }

  const ModelSpec& spec_;
  HfLayout layout_;
  std::vector<HfTensor> list_;
};

// Bytes of one row; of a vector each element is a row.
size_t row_bytes(const ag::Tensor& t) { return static_cast<size_t>(t.bytes() / t.shape()[0]); }

std::vector<std::byte> host_bytes(const ag::Tensor& t) {
  std::vector<std::byte> bytes(static_cast<size_t>(t.bytes()));
  t.copy_to(bytes.data());
  return bytes;
}

ag::Tensor gather(const ag::Tensor& t, const HfTensor& stored) {
  const size_t width = row_bytes(t);
  const std::vector<std::byte> from = host_bytes(t);
  std::vector<std::byte> to;
  to.reserve(stored.rows.size() * width);
  for (const int64_t row : stored.rows) {
    const auto begin = from.begin() + row * static_cast<int64_t>(width);
    to.insert(to.end(), begin, begin + static_cast<int64_t>(width));
  }
  ag::Tensor out = ag::Tensor::empty(stored.shape, t.dtype());
  out.copy_from(to.data());
  return out;
}

}  // namespace

std::vector<HfTensor> hf_tensors(const ModelSpec& spec, HfLayout layout) {
  return Table(spec, layout).list();
}

std::map<std::string, ag::Tensor> to_hf(const Model& model, HfLayout layout) {
  std::map<std::string, ag::Tensor> tensors;
  for (const HfTensor& t : hf_tensors(model.spec, layout)) {
    const ag::Tensor& weight = model.weights.at(t.path);
    tensors.emplace(t.name, t.rows.empty() ? weight : gather(weight, t));
  }
  return tensors;
}

Weights from_hf(const ModelSpec& spec, HfLayout layout,
                const std::map<std::string, ag::Tensor>& stored, const std::string& origin) {
  std::map<std::string, ag::Shape> shapes;
  for (const ParameterShape& p : parameter_shapes(spec)) shapes.emplace(p.path, p.shape);
  Weights weights;
  std::map<std::string, std::vector<std::byte>> parts;  // of parameters in another order of rows
  for (const HfTensor& t : hf_tensors(spec, layout)) {
    const ag::Tensor& tensor = stored.at(t.name);
    if (t.rows.empty()) {
      weights.emplace(t.path, tensor);
      continue;
    }
    const auto [it, is_first] = weights.try_emplace(t.path);
    if (is_first) it->second = ag::Tensor::empty(shapes.at(t.path), tensor.dtype());
    if (it->second.dtype() != tensor.dtype())
      core::fail(core::ExitCode::kBadData,
                 {.path = origin,
                  .place = t.name,
                  .field = "dtype",
                  .expected = std::string(ag::name_of(it->second.dtype())) +
                              ", as the other rows of " + t.path,
                  .found = std::string(ag::name_of(tensor.dtype()))});
    const size_t width = row_bytes(tensor);
    const std::vector<std::byte> from = host_bytes(tensor);
    std::vector<std::byte>& to = parts[t.path];
    to.resize(static_cast<size_t>(it->second.bytes()));
    for (size_t i = 0; i < t.rows.size(); ++i)
      std::memcpy(to.data() + static_cast<size_t>(t.rows[i]) * width, from.data() + i * width,
                  width);
  }
  for (const auto& [path, bytes] : parts) weights.at(path).copy_from(bytes.data());
  return weights;
}

}  // namespace model
