// How an action is refused: the exit code and the one line, for tests of hostile input.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "core/error.h"

namespace test_support {

// Runs `action`, which must throw core::Error with `code` and a single line holding `part`.
template <class Action>
void expect_refusal(core::ExitCode code, const std::string& part, Action&& action) {
  try {
    action();
    ADD_FAILURE() << "accepted; expected an error with: " << part;
  } catch (const core::Error& e) {
    const std::string line = e.what();
    EXPECT_EQ(static_cast<int>(e.code()), static_cast<int>(code)) << line;
    EXPECT_NE(line.find(part), std::string::npos) << line << "\nshould hold: " << part;
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  }
}

}  // namespace test_support
