// Results that several runs need and that depend only on what is named with them: a file each,
// FOLDER/<xxh3_128 of the key>.json = {"key": ..., "value": ...}, whole or not there. Who comes
// while another process computes a result waits for it.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "trainer/files/file_lock.h"

namespace trainer {

class SharedResult {
 public:
  // Finds the result, or becomes the one that has to compute it. An empty `folder`: shared with
  // nobody. Throws kPreempted when a stop is asked for while another process computes.
  SharedResult(const std::filesystem::path& folder, nlohmann::json key);

  bool is_known() const { return !value_.is_null(); }
  // Requires: is_known().
  const nlohmann::json& value() const { return value_; }
  // Requires: !is_known(). `value` is not null.
  void store(nlohmann::json value);

 private:
  void read();

  std::filesystem::path path_;
  nlohmann::json key_, value_;
  FileLock lock_;
};

// The result of `key`, computed if nobody has done so.
nlohmann::json shared_result(const std::filesystem::path& folder, const nlohmann::json& key,
                             const std::function<nlohmann::json()>& compute);

}  // namespace trainer
