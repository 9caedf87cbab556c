#include "trainer/run/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "core/io.h"
#include "trainer/config/sections.h"
#include "trainer/files/append_file.h"
#include "trainer/files/json_files.h"
#include "trainer/files/manifest.h"

namespace trainer {
namespace {

using core::ExitCode;
namespace fs = std::filesystem;

void require_folder_name(const char* key, const std::string& name) {
  const bool good = !name.empty() && name.front() != '.' && name.size() < 200 &&
                    name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
  if (!good)
    core::fail(ExitCode::kBadConfig,
               {.field = fmt::format("general.{}", key),
                .expected = "a folder name: no '/', no leading '.', under 200 bytes",
                .found = fmt::format("\"{}\"", name)});
}

void make_folder(const fs::path& path) {
  for (fs::path p = path; !p.empty(); p = p.parent_path()) {
    std::error_code error;
    const fs::file_status status = fs::status(p, error);
    if (fs::exists(status) && !fs::is_directory(status))
      core::fail(ExitCode::kIo, {.path = p,
                                 .field = "folder",
                                 .expected = "a folder or nothing",
                                 .found = "a file",
                                 .hint = "remove it or set general.output_dir"});
    if (p == p.parent_path()) break;
  }
  core::create_directories(path);
}

constexpr char kLockName[] = "run.lock";

[[noreturn]] void refuse_locked(const fs::path& lock) {
  const nlohmann::json owner = read_object(lock);
  const auto part = [&](const char* key) {
    return owner.contains(key) ? owner[key].dump() : std::string("unknown");
  };
  core::fail(ExitCode::kRunLocked,
             {.path = lock,
              .field = "run",
              .expected = "no other process in this run",
              .found = fmt::format("host {}, pid {}, started {}", part("host"), part("pid"),
                                   part("started")),
              .hint = "wait for it, stop it, or set another general.run"});
}

// Far above a line of ours. Parsed, a line can take thirty times its length.
constexpr size_t kMaxLineBytes = size_t{1} << 20;

// The step of a line; nullopt for one that is torn or not ours.
std::optional<int64_t> step_of_line(std::string_view line) {
  if (line.size() > kMaxLineBytes) return std::nullopt;
  const nlohmann::json value = parse_object(std::string(line));
  const auto step = value.find("step");
  if (step == value.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<int64_t>();
}

void discard_lines_after(const fs::path& path, int64_t step) {
  if (!fs::exists(path)) return;
  const std::string text = core::read_text(path);
  std::string kept, discarded;
  for (size_t begin = 0; begin < text.size();) {
    const size_t newline = text.find('\n', begin);
    const size_t end = newline == std::string::npos ? text.size() : newline;
    const std::string_view line(text.data() + begin, end - begin);
    const std::optional<int64_t> line_step = step_of_line(line);
    const bool keep = newline != std::string::npos && line_step && *line_step <= step;
    (keep ? kept : discarded).append(line).append("\n");
    begin = end + 1;
  }
  if (discarded.empty()) return;
  const fs::path beside = path.parent_path() / "metrics.discarded.jsonl";
  const std::string earlier = fs::exists(beside) ? core::read_text(beside) : "";
  core::write_file_atomically(beside, earlier + discarded);
  core::write_file_atomically(path, kept);
}

// Replaces what JSON cannot say; true if there was any.
bool replace_non_finite(nlohmann::json& value) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    value = nullptr;
    return true;
  }
  bool any = false;
  if (value.is_structured())
    for (auto& element : value) any = replace_non_finite(element) || any;
  return any;
}

}  // namespace

fs::path run_path(const GeneralConfig& general) {
  return fs::path(general.output_dir) / general.project / general.run;
}

RunFolder::RunFolder(const fs::path& output_dir, const std::string& project,
                     const std::string& run) {
  require_folder_name("project", project);
  require_folder_name("run", run);
  path_ = output_dir / project / run;
  make_folder(path_);
  lock();
  make_folder(checkpoints());
}

void require_no_owner(const fs::path& run_folder) {
  const fs::path path = run_folder / kLockName;
  if (fs::exists(path) && !FileLock::try_lock(path)) refuse_locked(path);
}

void RunFolder::lock() {
  const fs::path path = path_ / kLockName;
  lock_ = FileLock::try_lock(path);
  if (!lock_) refuse_locked(path);
  const nlohmann::json provenance = basic_provenance();
  const nlohmann::json self = {
      {"host", provenance["host"]}, {"pid", ::getpid()}, {"started", provenance["time"]}};
  lock_.write(self.dump() + "\n");
}

void write_status_file(const fs::path& run_folder, const nlohmann::json& status) {
  // An error message may quote bytes of a file name that are not UTF-8.
  core::write_file_atomically(
      run_folder / kStatusName,
      status.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void RunFolder::require_in_place() const {
  if (lock_.is_in_place()) return;
  core::fail(ExitCode::kIo,
             {.path = path_,
              .field = "run folder",
              .expected = "the folder that this run started in",
              .found = fs::is_directory(path_) ? "another one" : "none",
              .hint = "it was moved or removed: put it back and run the same command again"});
}

void RunFolder::write_config(const std::string& input, const std::string& resolved) const {
  core::write_file_atomically(path_ / "config.yaml", input);
  core::write_file_atomically(path_ / "config.resolved.yaml", resolved);
}

void RunFolder::write_status(const nlohmann::json& status) const {
  require_in_place();
  write_status_file(path_, status);
}

MetricsWriter::MetricsWriter(fs::path path, int64_t resumed_step) : path_(std::move(path)) {
  discard_lines_after(path_, resumed_step);
  fd_ = open_to_append(path_);
  struct stat info {};
  if (core::io::stat(fd_, &info) != 0) {
    const int error = errno;
    core::io::close(fd_);
    core::fail_errno("stat", path_, error);
  }
  size_ = static_cast<uint64_t>(info.st_size);
}

MetricsWriter::~MetricsWriter() { core::io::close(fd_); }

void MetricsWriter::append(nlohmann::json line) {
  if (replace_non_finite(line)) line["nan"] = true;
  waiting_ += line.dump() + "\n";
  flush();
}

void MetricsWriter::flush() {
  if (waiting_.empty()) return;
  take_back_torn_line();
  torn_ = true;
  try {
    write_all(fd_, path_, waiting_);
  } catch (const core::Error&) {
    take_back_torn_line();
    throw;
  }
  torn_ = false;
  size_ += waiting_.size();
  waiting_.clear();
}

void MetricsWriter::sync() {
  flush();
  if (core::io::sync(fd_) != 0) core::fail_errno("fsync", path_, errno);
}

void MetricsWriter::take_back_torn_line() {
  if (!torn_) return;
  if (core::io::truncate(fd_, size_) != 0) core::fail_errno("truncate", path_, errno);
  torn_ = false;
}

void for_each_metrics_line(const fs::path& path, const std::function<void(nlohmann::json)>& use) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(kMaxLineBytes + 1);
  std::ifstream lines(path);
  while (lines.getline(buffer.get(), kMaxLineBytes + 1), lines.gcount() > 0) {
    if (lines.fail()) {  // the line is longer
      lines.clear();
      lines.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
      continue;
    }
    const auto newline = lines.eof() ? 0 : 1;
    nlohmann::json entry =
        parse_object(std::string(buffer.get(), static_cast<size_t>(lines.gcount() - newline)));
    if (!entry.empty()) use(std::move(entry));
  }
}

}  // namespace trainer
