#include "trainer/run/shared_results.h"

#include <utility>

#include "core/file.h"
#include "core/hash.h"
#include "core/stop.h"
#include "trainer/files/json_files.h"

namespace trainer {

using nlohmann::json;
namespace fs = std::filesystem;

SharedResult::SharedResult(const fs::path& folder, json key) : key_(std::move(key)) {
  if (folder.empty()) return;
  path_ = folder / (core::hash_hex(key_.dump()) + ".json");
  read();
  if (is_known()) return;
  core::create_directories(folder);
  lock_ = FileLock::wait_for(fs::path(path_).replace_extension(".lock"), core::throw_if_stopping);
  read();  // it may be what was waited for
  if (is_known()) lock_ = {};
}

// One that is damaged is computed again: it holds nothing that could not be.
void SharedResult::read() {
  const json stored = read_object(path_);
  if (stored.value("key", json()) == key_) value_ = stored.value("value", json());
}

void SharedResult::store(json value) {
  value_ = std::move(value);
  if (path_.empty()) return;
  core::write_file_atomically(path_, json{{"key", key_}, {"value", value_}}.dump() + "\n");
  lock_ = {};
}

json shared_result(const fs::path& folder, const json& key, const std::function<json()>& compute) {
  SharedResult result(folder, key);
  if (!result.is_known()) result.store(compute());
  return result.value();
}

}  // namespace trainer
