// Lines of the log of a run: what they say of a step, and what they remember of earlier starts.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/support/temporary_folder.h"
#include "trainer/run/run_folder.h"
#include "trainer/run/step_log.h"

namespace trainer {
namespace {

using nlohmann::json;
using test_support::TemporaryFolder;

TEST(StepLog, LinesSayThatAStepWasSkipped) {
  const StepLog log(100, 64);
  StepReport report{.step = 7, .loss = 2.5, .gradient_norm = 1, .learning_rate = 1e-3};
  EXPECT_FALSE(log.metrics(report, 448, 0.1).contains("skipped"));
  report.outcome = StepOutcome::skipped;
  const auto skipped = log.metrics(report, 448, 0.1);
  EXPECT_EQ(skipped.at("skipped"), true);
  EXPECT_EQ(skipped.at("loss"), 2.5);
  EXPECT_NE(log.line(report).find("| skipped"), std::string::npos);
  report.outcome = StepOutcome::forgotten;
  const auto forgotten = log.metrics(report, 448, 0.1);
  EXPECT_EQ(forgotten.at("skipped"), true);
  EXPECT_FALSE(forgotten.contains("loss"));
  EXPECT_NE(log.line(report).find("left out after a rollback"), std::string::npos);
}

TEST(StepLog, SecondsAndSpeedAreOfAllStartsOfARun) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "metrics.jsonl";
  MetricsWriter metrics(path, -1);
  const auto train = [](int64_t step, int64_t steps, double step_time, double wall) {
    return json{{"type", "train"},
                {"step", step},
                {"interval_steps", steps},
                {"step_time_s", step_time},
                {"wall_s", wall}};
  };
  metrics.append(train(1, 1, 4.0, 10));
  metrics.append(train(5, 4, 2.0, 20));
  metrics.append({{"type", "val"}, {"step", 5}, {"wall_s", 25.0}});
  metrics.append(train(10, 2, 1.0, 35));  // of a process that went on from step 8
  metrics.append({{"type", "ckpt"}, {"step", 10}, {"seconds", 900.0}, {"wall_s", 36.0}});
  metrics.append(train(11, 1, std::nan(""), std::nan("")));
  metrics.append({{"type", "train"}, {"step", 12}, {"step_time_s", 2.0}});  // of an older version
  metrics.flush();
  const TimeSpent spent = time_spent(path);
  EXPECT_EQ(spent.wall_seconds, 36);
  EXPECT_EQ(spent.step_seconds, 14);
  EXPECT_EQ(spent.steps, 7);
  StepLog log(100, 64);
  EXPECT_EQ(log.tokens_per_second(), 0);
  log.go_on_from(spent);
  EXPECT_DOUBLE_EQ(log.tokens_per_second(), 7 * 64 / 14.0);
  EXPECT_GE(log.wall_seconds(), 36);
  EXPECT_FALSE(log.has_stepped());
  log.begin_step();
  log.end_step();
  EXPECT_TRUE(log.has_stepped());
  const json line = log.metrics({.step = 13}, 832, 0.1);
  EXPECT_GE(line.at("wall_s"), 36);
  EXPECT_EQ(line.at("interval_steps"), 1);
  EXPECT_EQ(time_spent("/nowhere/metrics.jsonl").steps, 0);
}

}  // namespace
}  // namespace trainer
