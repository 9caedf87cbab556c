// What `train` was started with, beside the configuration itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace trainer {

struct TrainOptions {
  std::filesystem::path config;
  std::vector<std::string> overrides;  // key=value
  std::string resume = "auto";         // auto | none | PATH of a checkpoint
  int64_t replay = 0;                  // the step to compute again and compare; 0: train
  bool dry_run = false;
  // Folder of results that several runs need (shared_results.h); empty: none.
  std::filesystem::path shared = {};
};

}  // namespace trainer
