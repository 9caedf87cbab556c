#include "data/eval_windows.h"
#include "tests/support/refusal.h"

#include "tests/data/shard_files.h"

namespace data {
namespace {

using test_support::expect_refusal;

using core::ExitCode;
using EvalWindowsTest = ShardFiles;

TEST_F(EvalWindowsTest, WindowsAreDisjointRunsOfIds) {
  const EvalWindows windows(write_run("a.ds", 0, 23), 100, 5);
  ASSERT_EQ(windows.count(), 4);
  EXPECT_EQ(windows.targets(), 16);
  std::vector<int32_t> ids(5);
  windows.read(3, ids.data());
  EXPECT_EQ(ids, std::vector<int32_t>({15, 16, 17, 18, 19}));
  EXPECT_EQ(windows.protocol(), "disjoint windows of 5 ids, 4 targets each, 4 windows");
}

TEST_F(EvalWindowsTest, TakesTheFirstWindowsOnly) {
  const EvalWindows two(write_run("a.ds", 0, 23), 100, 5, 2);
  EXPECT_EQ(two.count(), 2);
  EXPECT_EQ(two.available(), 4);
  std::vector<int32_t> ids(5);
  expect_refusal(ExitCode::kInternal, "below 2", [&] { two.read(2, ids.data()); });
  EXPECT_EQ(EvalWindows(at("a.ds"), 100, 5, 50).count(), 4);
}

TEST_F(EvalWindowsTest, RefusesWindowsWithoutTargets) {
  const auto path = write_run("a.ds", 0, 23);
  expect_refusal(ExitCode::kBadConfig, "sequence_length", [&] { EvalWindows(path, 100, 1); });
  expect_refusal(ExitCode::kBadConfig, "max_windows", [&] { EvalWindows(path, 100, 5, -1); });
  expect_refusal(ExitCode::kBadData, {"at least 24", "got 23"},
                 [&] { EvalWindows(path, 100, 24); });
}

}  // namespace
}  // namespace data
