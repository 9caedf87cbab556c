// runs/<project>/<run>/: run.lock, status.json, config.yaml, config.resolved.yaml, metrics.jsonl,
// trainer.log, checkpoints/. One process at a time owns it; the lock ends with the process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "trainer/files/file_lock.h"

namespace trainer {

struct GeneralConfig;

// <output_dir>/<project>/<run>
std::filesystem::path run_path(const GeneralConfig& general);

// Throws kRunLocked as RunFolder does when another process owns the folder now; makes nothing.
void require_no_owner(const std::filesystem::path& run_folder);

inline constexpr char kStatusName[] = "status.json";
// Replaces status.json of a run as a whole.
void write_status_file(const std::filesystem::path& run_folder, const nlohmann::json& status);

class RunFolder {
 public:
  // Creates and locks <output_dir>/<project>/<run>. Throws kRunLocked naming host, process and
  // start time of the owner; kIo or kPermission when the folder cannot be made or written;
  // kBadConfig for a name that is not one folder.
  RunFolder(const std::filesystem::path& output_dir, const std::string& project,
            const std::string& run);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path log() const { return path_ / "trainer.log"; }

  // Throws kIo if the folder is no longer the one that this process locked: it was moved or
  // removed, and what is there now belongs to nobody, or to another run.
  void require_in_place() const;

  // config.yaml: the bytes of the user's file; config.resolved.yaml: all that the run uses.
  void write_config(const std::string& input, const std::string& resolved) const;
  // Replaces status.json as a whole. Throws as require_in_place() does.
  void write_status(const nlohmann::json& status) const;

 private:
  void lock();

  std::filesystem::path path_;
  FileLock lock_;
};

// metrics.jsonl: one object per line, each with "step", handed to the system line by line: a line
// that could not be written whole is taken back. NaN and infinities become null, and the line gets
// "nan": true.
class MetricsWriter {
 public:
  // Lines of steps after `resumed_step`, and a torn last line, move to metrics.discarded.jsonl: the
  // run will write them again. -1 for a run that starts at its beginning.
  MetricsWriter(std::filesystem::path path, int64_t resumed_step);
  ~MetricsWriter();
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;

  // Throws kIo when the line cannot be written (disk full): it waits in memory then, and goes out
  // before the next one.
  void append(nlohmann::json line);
  // Writes what waits, or throws.
  void flush();
  // And makes all lines durable.
  void sync();

 private:
  void take_back_torn_line();

  std::filesystem::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;  // bytes of whole lines
  bool torn_ = false;  // there is more than that in the file
  std::string waiting_;
};

// Calls use(line) for every whole line of a metrics.jsonl, which need not be there.
void for_each_metrics_line(const std::filesystem::path& path,
                           const std::function<void(nlohmann::json)>& use);

}  // namespace trainer
