// What tests of the configuration share: the least that is accepted, and the words of a refusal.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "trainer/config/config.h"

namespace trainer::config_case {

inline const std::string kMinimal = R"(
model: {init_from: model}
data_stages: [{data: {dataset: {dataset_folder: a.ds}}}]
tokens: {train_steps: 100}
)";

inline Config parse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  return parse_config(text, "/home/ann/tiny.yaml", overrides);
}

// The message with which `text` is refused; empty if it is accepted.
inline std::string refusal(const std::string& text,
                           const std::vector<std::string>& overrides = {}) {
  try {
    parse(text, overrides);
  } catch (const core::Error& e) {
    EXPECT_EQ(e.code(), core::ExitCode::kBadConfig);
    return e.what();
  }
  return "";
}

inline std::string override_refusal(const std::string& override_text) {
  return refusal(kMinimal, {override_text});
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

#define EXPECT_CONTAINS(text, part)                         \
  EXPECT_TRUE(::trainer::config_case::contains(text, part)) \
      << "in: " << (text) << "\nwanted: " << (part)

}  // namespace trainer::config_case
