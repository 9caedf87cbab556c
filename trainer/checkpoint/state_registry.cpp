#include "trainer/checkpoint/state_registry.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"

namespace trainer {
namespace {

using core::ExitCode;

std::vector<H5Source> ascending(std::vector<H5Source> sources) {
  std::sort(sources.begin(), sources.end(),
            [](const H5Source& a, const H5Source& b) { return a.name < b.name; });
  return sources;
}

bool is_finite(const nlohmann::json& value) {
  if (value.is_number_float()) return std::isfinite(value.get<double>());
  if (value.is_structured()) return std::all_of(value.begin(), value.end(), is_finite);
  return true;
}

}  // namespace

void StateRegistry::claim(const std::string& name) {
  if (name.empty() || !names_.insert(name).second)
    core::fail(ExitCode::kInternal, {.place = name,
                                     .field = "state registry",
                                     .expected = "a new name",
                                     .found = name.empty() ? "none" : "one that is taken"});
}

void StateRegistry::add_tensor(const std::string& name, ag::Tensor live) {
  claim(name);
  tensors_.emplace(name, std::move(live));
}

void StateRegistry::add_dealt(const std::string& name, DealtTensor dealt) {
  claim(name);
  int64_t elements = 0;
  for (const ag::ElementRange& range : dealt.ranges) elements += range.size();
  if (elements != dealt.shape.numel() || dealt.own.numel() != dealt.own_range().size())
    core::fail(ExitCode::kInternal, {.place = name,
                                     .field = "state registry",
                                     .expected = "the elements of " + to_string(dealt.shape),
                                     .found = std::to_string(elements)});
  dealt_.emplace(name, std::move(dealt));
}

void StateRegistry::add_replica(const std::string& name, ag::Tensor live) {
  replicas_.emplace(name, std::move(live));
}

void StateRegistry::add_constant(const std::string& name, const ag::Shape& shape,
                                 std::vector<uint8_t> bytes) {
  claim(name);
  if (static_cast<int64_t>(bytes.size()) != shape.numel())
    core::fail(ExitCode::kInternal, {.place = name,
                                     .field = "state registry",
                                     .expected = "bytes of " + to_string(shape),
                                     .found = std::to_string(bytes.size())});
  constants_.emplace(name, Constant{shape, std::move(bytes)});
}

void StateRegistry::add_value(const std::string& name, Getter get, Setter set) {
  claim(name);
  values_.emplace(name, Value{std::move(get), std::move(set)});
}

std::vector<std::string> StateRegistry::names() const { return {names_.begin(), names_.end()}; }

std::vector<H5Source> StateRegistry::sources() const {
  std::vector<H5Source> sources;
  for (const auto& [name, tensor] : tensors_) sources.push_back(h5_source(name, tensor));
  for (const auto& [name, dealt] : dealt_)
    sources.push_back({name, dealt.shape, h5_type_of(dealt.own.dtype()), nullptr});
  for (const auto& [name, constant] : constants_)
    sources.push_back({name, constant.shape, H5Type::u8, constant.bytes.data()});
  return ascending(std::move(sources));
}

std::vector<H5Source> StateRegistry::replicated() const {
  std::vector<H5Source> whole = sources();
  std::erase_if(whole, [&](const H5Source& source) { return dealt_.contains(source.name); });
  for (const auto& [name, tensor] : replicas_) whole.push_back(h5_source(name, tensor));
  return ascending(std::move(whole));
}

StateView StateRegistry::view() const {
  if (!dealt_.empty())
    core::fail(ExitCode::kInternal, {.place = dealt_.begin()->first,
                                     .field = "state registry",
                                     .expected = "all elements",
                                     .found = "those of one rank"});
  return {sources(), values()};
}

nlohmann::json StateRegistry::values() const {
  nlohmann::json result = nlohmann::json::object();
  for (const auto& [name, value] : values_) {
    nlohmann::json now = value.get();
    if (!is_finite(now))
      core::fail(ExitCode::kNumerical, {.place = name,
                                        .field = "state value",
                                        .expected = "finite numbers",
                                        .found = "NaN or infinity"});
    result[name] = std::move(now);
  }
  return result;
}

void StateRegistry::load_tensor(const std::string& name, const void* data) {
  if (skipped_.contains(name)) return;
  const auto dealt = dealt_.find(name);
  if (dealt == dealt_.end()) {
    tensors_.at(name).copy_from(data);
  } else if (dealt->second.load) {
    dealt->second.load(data);
  } else {
    ag::Tensor& own = dealt->second.own;
    own.copy_from(static_cast<const std::byte*>(data) +
                  dealt->second.own_range().begin * ag::size_of(own.dtype()));
  }
}

void StateRegistry::load_values(const nlohmann::json& values) {
  for (const auto& [name, value] : values_) {
    if (skipped_.contains(name)) continue;
    try {
      value.set(values.at(name));
    } catch (const nlohmann::json::exception& e) {
      core::fail(ExitCode::kNoValidCheckpoint, {.place = name,
                                                .field = "state value",
                                                .expected = "the type this program writes",
                                                .found = e.what()});
    }
  }
}

}  // namespace trainer
