// Everything that training depends on, by name. What is not here does not survive an interruption;
// what is here is saved, and loading wants exactly the same names.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "autograd/core/share.h"
#include "autograd/core/tensor.h"
#include "trainer/files/h5.h"

namespace trainer {

// All entries at one moment: tensors and constants ascending by name, and name -> value.
struct StateView {
  std::vector<H5Source> sources;
  nlohmann::json values = nlohmann::json::object();
};

// A tensor whose elements are dealt to the ranks: no rank has them all.
struct DealtTensor {
  ag::Shape shape;
  std::vector<ag::ElementRange> ranges;  // of each rank, together all elements, none twice
  int rank = 0;                          // this one
  ag::Tensor own;                        // live, [n]: the elements of ranges[rank]
  // Takes what it needs of all elements, of own's dtype. Null: `own` and nothing else.
  std::function<void(const void*)> load;

  const ag::ElementRange& own_range() const { return ranges[static_cast<size_t>(rank)]; }
};

class StateRegistry {
 public:
  using Getter = std::function<nlohmann::json()>;
  using Setter = std::function<void(const nlohmann::json&)>;

  // Names are unique over all three kinds (kInternal otherwise).
  // `live` shares memory with the trainer and is loaded in place. '/' in the name makes groups.
  void add_tensor(const std::string& name, ag::Tensor live);
  // The same entry on all ranks, and in a checkpoint the same dataset as add_tensor() makes.
  void add_dealt(const std::string& name, DealtTensor dealt);
  // Follows from other entries and is equal on all ranks: compared among them, never saved. Its
  // name is none of an entry.
  void add_replica(const std::string& name, ag::Tensor live);
  // Bytes that a run never changes (the kept pairs); a checkpoint with others is refused.
  void add_constant(const std::string& name, const ag::Shape& shape, std::vector<uint8_t> bytes);
  // Counters, positions, scalars. A floating value must be finite: JSON has no others.
  void add_value(const std::string& name, Getter get, Setter set);

  std::vector<std::string> names() const;  // ascending
  // All tensors and constants, ascending by name; the pointers are live, those of dealt tensors
  // null.
  std::vector<H5Source> sources() const;
  // What every rank has whole: replicas, and sources() but for dealt tensors; ascending by name.
  std::vector<H5Source> replicated() const;
  nlohmann::json values() const;  // object: name -> value
  // Requires: nothing is dealt. What is written from then is a StateSnapshot.
  StateView view() const;

  bool is_constant(const std::string& name) const { return constants_.contains(name); }
  const std::map<std::string, DealtTensor>& dealt() const { return dealt_; }
  // Requires: `name` is a tensor's, `data` has its elements.
  void load_tensor(const std::string& name, const void* data);
  // Requires: the names of `values` are those of values().
  void load_values(const nlohmann::json& values);

  // Entries that are saved but not restored: shows that resuming needs each of them.
  void skip_on_load_for_testing(std::set<std::string> names) { skipped_ = std::move(names); }

 private:
  struct Constant {
    ag::Shape shape;
    std::vector<uint8_t> bytes;
  };
  struct Value {
    Getter get;
    Setter set;
  };
  void claim(const std::string& name);

  std::set<std::string> names_;
  std::map<std::string, ag::Tensor> tensors_, replicas_;
  std::map<std::string, DealtTensor> dealt_;
  std::map<std::string, Constant> constants_;
  std::map<std::string, Value> values_;
  std::set<std::string> skipped_;
};

}  // namespace trainer
