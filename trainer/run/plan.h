// The check before training, as train and validate run it.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "trainer/run/preflight.h"

namespace trainer {

// preflight() whose errors name `config_path` where they name no other file: what it refuses are
// values of that configuration.
nlohmann::json plan_of(const std::filesystem::path& config_path, const Config& config, int ranks,
                       PlanFor purpose);

}  // namespace trainer
