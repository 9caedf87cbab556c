#include "trainer/files/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "core/error.h"

namespace trainer {

struct Log::Sinks {
  std::shared_ptr<spdlog::logger> console, errors, file;
};

Log::Log(const std::filesystem::path& file, bool console_is_stderr, bool quiet,
         const std::string& prefix)
    : sinks_(std::make_unique<Sinks>()), quiet_(quiet) {
  if (quiet_) return;
  const auto errors = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  spdlog::sink_ptr console = errors;
  if (!console_is_stderr) console = std::make_shared<spdlog::sinks::stdout_sink_mt>();
  sinks_->console = std::make_shared<spdlog::logger>("console", console);
  sinks_->errors = std::make_shared<spdlog::logger>("errors", errors);
  std::string pattern;
  for (const char c : prefix) pattern += c == '%' ? "%%" : std::string(1, c);
  for (const auto& logger : {sinks_->console, sinks_->errors}) {
    logger->set_pattern(pattern + "%v");
    logger->flush_on(spdlog::level::info);
  }
  if (file.empty()) return;
  try {
    sinks_->file = std::make_shared<spdlog::logger>(
        "file", std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string()));
  } catch (const spdlog::spdlog_ex& e) {
    core::fail(core::ExitCode::kIo, {.path = file, .field = "log", .found = e.what()});
  }
  sinks_->file->set_pattern("%Y-%m-%dT%H:%M:%S %L %v");
  sinks_->file->flush_on(spdlog::level::info);
}

Log::~Log() = default;

void Log::info(const std::string& line) const {
  if (quiet_) return;
  sinks_->console->info(line);
  if (sinks_->file) sinks_->file->info(line);
}

void Log::warn(const std::string& line) const {
  if (quiet_) return;
  sinks_->errors->warn("warning: " + line);
  if (sinks_->file) sinks_->file->warn(line);
}

}  // namespace trainer
