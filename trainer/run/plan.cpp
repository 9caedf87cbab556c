#include "trainer/run/plan.h"

#include <string_view>

#include "core/error.h"

namespace trainer {

nlohmann::json plan_of(const std::filesystem::path& config_path, const Config& config, int ranks,
                       PlanFor purpose) {
  try {
    return preflight(config, ranks, purpose);
  } catch (const core::Error& error) {
    constexpr std::string_view kNoFile = "error:";
    const std::string line = error.what();
    if (!line.starts_with(kNoFile)) throw;
    throw core::Error(error.code(),
                      core::format_fault({.path = config_path}) + line.substr(kNoFile.size()));
  }
}

}  // namespace trainer
