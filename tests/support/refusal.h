// How an action is refused: the exit code and the one line, for tests of hostile input.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "core/error.h"

namespace test_support {

inline constexpr auto kInternal = core::ExitCode::kInternal;

// The code and text of the error that `action` throws; kOk when it throws none.
struct Caught {
  core::ExitCode code = core::ExitCode::kOk;
  std::string text;
};
template <class Action>
Caught caught(Action&& action) {
  try {
    action();
  } catch (const core::Error& e) {
    return {e.code(), e.what()};
  }
  return {};
}

// `action` must throw core::Error with `code` and a single line that holds every one of `parts`.
template <class Action>
void expect_refusal(core::ExitCode code, std::initializer_list<std::string> parts,
                    Action&& action) {
  const Caught error = caught(action);
  EXPECT_EQ(static_cast<int>(error.code), static_cast<int>(code)) << error.text;
  EXPECT_EQ(error.text.find('\n'), std::string::npos) << error.text;
  EXPECT_LT(error.text.size(), 1000u) << error.text;
  for (const std::string& part : parts)
    EXPECT_NE(error.text.find(part), std::string::npos) << error.text << "\nshould hold: " << part;
}

template <class Action>
void expect_refusal(core::ExitCode code, const std::string& part, Action&& action) {
  expect_refusal(code, {part}, action);
}

}  // namespace test_support

#define EXPECT_FAILS(expected_code, part, ...) \
  ::test_support::expect_refusal(::core::ExitCode::expected_code, part, [&] { __VA_ARGS__; })
