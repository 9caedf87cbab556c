// What the libraries below throw becomes the exit code that says what to do.
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "trainer/ranks/comm.h"

namespace {

using core::ExitCode;

template <class Exception>
core::Error converted(const Exception& exception) {
  return trainer::to_error(std::make_exception_ptr(exception));
}

TEST(ToError, SY07MemoryIs80) {
  EXPECT_EQ(converted(std::bad_alloc()).code(), ExitCode::kOutOfMemory);
}

TEST(ToError, SY11ThreadThatCannotStartIs71) {
  const core::Error error =
      converted(std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again)));
  EXPECT_EQ(error.code(), ExitCode::kOsLimit);
  EXPECT_NE(std::string(error.what()).find("new thread"), std::string::npos) << error.what();
  EXPECT_NE(std::string(error.what()).find("ulimit -u"), std::string::npos) << error.what();
}

TEST(ToError, OthersAreBugs) {
  EXPECT_EQ(converted(std::system_error(std::make_error_code(std::errc::invalid_seek))).code(),
            ExitCode::kInternal);
  EXPECT_EQ(converted(std::logic_error("unforeseen")).code(), ExitCode::kInternal);
  EXPECT_EQ(converted(3).code(), ExitCode::kInternal);
}

TEST(ToError, OursStayAsTheyAre) {
  const core::Error error = converted(core::Error(ExitCode::kNumerical, "step 3"));
  EXPECT_EQ(error.code(), ExitCode::kNumerical);
  EXPECT_STREQ(error.what(), "step 3");
}

}  // namespace
