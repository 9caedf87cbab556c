#include "core/trace_file.h"

#include <fmt/format.h>

#include <iterator>
#include <string>
#include <utility>

#include "core/env.h"
#include "core/error.h"
#include "core/file.h"

namespace core::trace {
namespace {

constexpr char kVariable[] = "MHA2MLA_TRACE";
constexpr size_t kWriteBytes = size_t{1} << 20;

// Why the path of rank 0 in all messages: what all ranks see alike is told once.
[[noreturn]] void refuse(ExitCode code, const std::string& expected, const std::string& found) {
  fail(code, {.path = env().trace, .field = kVariable, .expected = expected, .found = found});
}

void require_writable(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(folder_of(path), ignored))
    refuse(ExitCode::kBadConfig, "a file in an existing folder", "no such folder");
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored))
    refuse(ExitCode::kBadConfig, "a regular file", "something else");
  try {
    const AtomicFile abandoned(path);
  } catch (const Error& error) {
    if (error.code() == ExitCode::kPermission)
      refuse(ExitCode::kPermission, "permission to write", "none");
    refuse(ExitCode::kBadConfig, "a file that can be written", error.what());
  }
}

void append_name(std::string& text, const char* kind, int rank, size_t thread,
                 const std::string& name) {
  fmt::format_to(std::back_inserter(text),
                 R"({{"name":"{}","ph":"M","pid":{},"tid":{},"args":{{"name":"{}"}}}})", kind, rank,
                 thread, name);
}

void append_event(std::string& text, int rank, size_t thread, const Event& e) {
  const auto out = std::back_inserter(text);
  fmt::format_to(out,
                 R"(,
{{"name":"{}","cat":"{}","ph":"X","ts":{}.{:03},"dur":{}.{:03},"pid":{},"tid":{},"args":{{)",
                 e.name, e.category, e.begin / 1000, e.begin % 1000, e.duration / 1000,
                 e.duration % 1000, rank, thread);
  const char* comma = "";
  const auto argument = [&](const char* name, auto value) {
    fmt::format_to(out, R"({}"{}":{})", std::exchange(comma, ","), name, value);
  };
  if (e.layer >= 0) argument("layer", e.layer);
  if (e.flops > 0) argument("GFLOP", e.flops * 1e-9);
  if (e.bytes > 0) argument("MB", e.bytes * 1e-6);
  text += "}}";
}

}  // namespace

fs::path path_of_rank(const fs::path& path, int rank) {
  if (rank == 0) return path;
  std::string name = path.string();
  if (name.ends_with(".json")) name.resize(name.size() - 5);
  return fmt::format("{}.rank{}.json", name, rank);
}

void write(const fs::path& path, int rank, const Recording& recording) {
  AtomicFile file(path);
  std::string text = "[\n";
  append_name(text, "process_name", rank, 0, fmt::format("rank {}", rank));
  for (size_t i = 0; i < recording.threads.size(); ++i) {
    text += ",\n";
    append_name(text, "thread_name", rank, i, recording.threads[i].name);
    for (const Event& event : recording.threads[i].events) {
      append_event(text, rank, i, event);
      if (text.size() < kWriteBytes) continue;
      file.write(text);
      text.clear();
    }
  }
  if (recording.left_out > 0)
    text += fmt::format(
        ",\n{{\"name\":\"process_labels\",\"ph\":\"M\",\"pid\":{},\"tid\":0,"
        "\"args\":{{\"labels\":\"{} events left out\"}}}}",
        rank, recording.left_out);
  text += "\n]\n";
  file.write(text);
  file.commit();
}

void start_from_environment(int rank) {
  if (env().trace.empty()) return;
  require_writable(path_of_rank(env().trace, rank));
  name_thread("main");
  start();
}

uint64_t finish_from_environment(int rank) {
  if (env().trace.empty() || !on()) return 0;
  stop();
  const Recording all = recording();
  write(path_of_rank(env().trace, rank), rank, all);
  return all.left_out;
}

}  // namespace core::trace
