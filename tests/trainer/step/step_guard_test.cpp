// The guard alone: what it calls a spike, what it counts, and what of it survives.
#include "trainer/step/step_guard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tests/support/refusal.h"

namespace trainer {
namespace {

using core::ExitCode;
using test_support::expect_refusal;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

StepGuard::Judgement judge(StepGuard& guard, int64_t step, double loss, double norm = 1) {
  return guard.judge({.step = step, .loss = loss, .gradient_norm = norm, .nonfinite = [] {
                        return std::string("gradient of layers.0.attn.q.weight");
                      }});
}

// A loss curve as pretraining shows it: a power law, 3 % noise, seeded.
class LossCurve {
 public:
  double next() {
    ++step_;
    return (2 + 3 * std::pow(static_cast<double>(step_), -0.3)) * (1 + 0.03 * normal_(random_));
  }

 private:
  std::mt19937 random_{5};
  std::normal_distribution<double> normal_;
  int64_t step_ = 0;
};

TEST(LossZScore, IsTheDeviationFromTheWindow) {
  std::deque<double> window;
  for (int i = 0; i < 100; ++i) window.push_back(i % 2 == 0 ? 2.0 : 4.0);  // mean 3, deviation 1
  EXPECT_DOUBLE_EQ(loss_z_score(window, 9), 6);
  EXPECT_DOUBLE_EQ(loss_z_score(window, 1), -2);
  window.resize(StepGuard::kShortestWindow - 1);
  EXPECT_EQ(loss_z_score(window, 9), 0);
}

TEST(LossZScore, ARoundingErrorOfAConstantLossIsNoSpike) {
  const std::deque<double> window(200, 2.0);
  EXPECT_NEAR(loss_z_score(window, 2.000001), 0.0005, 1e-9);
  EXPECT_NEAR(loss_z_score(window, 2.02), 10, 1e-9);
  EXPECT_EQ(loss_z_score(std::deque<double>(200, 0.0), 0), 0);
}

TEST(StepGuard, NormalCurveHasNoSpikeAndAnInjectedOneIsFound) {
  CheckpointsConfig config;
  config.on_spike = "warn";
  StepGuard guard(config);
  LossCurve curve;
  for (int64_t step = 1; step <= 3000; ++step)
    ASSERT_TRUE(judge(guard, step, curve.next()).note.empty()) << step;
  const StepGuard::Judgement spike = judge(guard, 3001, 1.5 * curve.next());
  EXPECT_EQ(spike.outcome, StepOutcome::applied);
  EXPECT_NE(spike.note.find("step 3001: loss: "), std::string::npos) << spike.note;
  EXPECT_NE(spike.note.find("standard deviations above the mean of the last 200"),
            std::string::npos)
      << spike.note;
}

TEST(StepGuard, OffByDefault) {
  StepGuard guard(CheckpointsConfig{});
  LossCurve curve;
  for (int64_t step = 1; step <= 300; ++step) judge(guard, step, curve.next());
  const StepGuard::Judgement judgement = judge(guard, 301, 1e6);
  EXPECT_EQ(judgement.outcome, StepOutcome::applied);
  EXPECT_TRUE(judgement.note.empty());
}

// The window holds applied losses only: the second of two equal spikes is as bad as the first.
TEST(StepGuard, SkippedSpikeStaysOutOfTheWindowAndAWarnedOneEnters) {
  for (const char* action : {"skip", "warn"}) {
    CheckpointsConfig config;
    config.on_spike = action;
    config.max_skipped_steps = 100;
    StepGuard guard(config);
    LossCurve curve;
    for (int64_t step = 1; step <= 250; ++step) judge(guard, step, curve.next());
    int64_t seen = 0;
    for (int64_t step = 251; step <= 300; ++step) seen += !judge(guard, step, 6).note.empty();
    if (std::string(action) == "skip")
      EXPECT_EQ(seen, 50);
    else
      EXPECT_LT(seen, 10) << "a new level is no spike";
  }
}

TEST(StepGuard, EveryActionOnASpike) {
  const auto outcome = [](const char* action) {
    CheckpointsConfig config;
    config.on_spike = action;
    StepGuard guard(config);
    LossCurve curve;
    for (int64_t step = 1; step <= 100; ++step) judge(guard, step, curve.next());
    return judge(guard, 101, 50).outcome;
  };
  EXPECT_EQ(outcome("warn"), StepOutcome::applied);
  EXPECT_EQ(outcome("skip"), StepOutcome::skipped);
  EXPECT_EQ(outcome("rollback"), StepOutcome::rollback);
  expect_refusal(ExitCode::kNumerical, "step 101: error: loss: expected at most 6 standard",
                 [&] { outcome("stop"); });
}

// NU01, NU02: what is not finite never passes, wherever it shows.
TEST(StepGuard, NonFiniteValuesAreJudgedByOnNan) {
  for (const auto& [loss, norm] :
       {std::pair(kNaN, 1.0), std::pair(kInfinity, 1.0), std::pair(1.0, kNaN),
        std::pair(1.0, kInfinity), std::pair(-kInfinity, kNaN)}) {
    CheckpointsConfig config;
    StepGuard stop(config);
    expect_refusal(ExitCode::kNumerical, "step 7: error: gradient of layers.0.attn.q.weight",
                   [&] { judge(stop, 7, loss, norm); });
    config.on_nan = "rollback";
    StepGuard back(config);
    EXPECT_EQ(judge(back, 7, loss, norm).outcome, StepOutcome::rollback);
    config.on_nan = "skip";
    StepGuard skip(config);
    EXPECT_EQ(judge(skip, 7, loss, norm).outcome, StepOutcome::skipped);
    EXPECT_EQ(skip.skipped_steps(), 1);
  }
}

TEST(StepGuard, MoreSkipsInARowThanAllowedNameTheSteps) {
  CheckpointsConfig config;
  config.on_nan = "skip";
  config.max_skipped_steps = 3;
  StepGuard guard(config);
  for (int64_t step = 1; step <= 40; ++step)  // an applied step between ends every series
    EXPECT_EQ(judge(guard, step, step % 4 == 0 ? 1.0 : kNaN).outcome,
              step % 4 == 0 ? StepOutcome::applied : StepOutcome::skipped);
  EXPECT_EQ(guard.skipped_steps(), 30);
  for (int64_t step = 41; step <= 43; ++step) judge(guard, step, kNaN);
  for (int repeat = 0; repeat < 2; ++repeat)  // nothing is remembered of a step that stops
    expect_refusal(ExitCode::kNumerical,
                   "steps 41 to 44: error: ", [&] { judge(guard, 44, kNaN); });
  EXPECT_EQ(guard.skipped_steps(), 33);
}

TEST(StepGuard, SeriesOfSkipsGoesOnAfterAResume) {
  CheckpointsConfig config;
  config.on_nan = "skip";
  config.max_skipped_steps = 3;
  StepGuard before(config), after(config);
  StateRegistry saved, loaded;
  before.register_state(saved);
  after.register_state(loaded);
  for (int64_t step = 5; step <= 7; ++step) judge(before, step, kNaN);
  loaded.load_values(nlohmann::json::parse(saved.values().dump()));
  expect_refusal(ExitCode::kNumerical, "steps 5 to 8: error: ", [&] { judge(after, 8, kNaN); });
}

TEST(StepGuard, ForgottenStepsAreASetOfRanges) {
  StepGuard guard(CheckpointsConfig{});
  StateRegistry registry;
  guard.register_state(registry);
  guard.forget(10, 12);
  guard.forget(20, 20);
  EXPECT_EQ(registry.values().at("guard.forgotten").dump(), "[[10,12],[20,20]]");
  guard.forget(13, 13);
  guard.forget(1, 2);
  EXPECT_EQ(registry.values().at("guard.forgotten").dump(), "[[1,2],[10,13],[20,20]]");
  guard.forget(11, 30);
  EXPECT_EQ(registry.values().at("guard.forgotten").dump(), "[[1,2],[10,30]]");
  for (const int64_t step : {1, 2, 10, 11, 29, 30}) EXPECT_TRUE(guard.is_forgotten(step)) << step;
  for (const int64_t step : {0, 3, 9, 31, 1000}) EXPECT_FALSE(guard.is_forgotten(step)) << step;
}

TEST(StepGuard, AnOlderStateDoesNotUndoARollback) {
  StepGuard guard(CheckpointsConfig{});
  StateRegistry registry;
  guard.register_state(registry);
  const nlohmann::json older = registry.values();
  guard.forget(10, 12);
  registry.load_values(older);
  EXPECT_TRUE(guard.is_forgotten(11));
  EXPECT_EQ(guard.rollbacks(), 1);
}

TEST(StepGuard, RollbacksAreLimited) {
  StepGuard guard(CheckpointsConfig{});
  for (int64_t i = 1; i <= StepGuard::kMaxRollbacks; ++i) guard.forget(i, i);
  expect_refusal(ExitCode::kNumerical, "step 6: error: rollback: expected at most 5 in a run",
                 [&] { guard.forget(6, 6); });
  EXPECT_FALSE(guard.is_forgotten(6));
}

TEST(StepGuard, MalformedStateIsRefused) {
  for (const char* value :
       {R"({"guard.losses": 1})", R"({"guard.losses": ["a"]})", R"({"guard.skipped": {}})",
        R"({"guard.skipped": {"steps": -1, "first": 0, "last": 0}})",
        R"({"guard.skipped": {"steps": 1, "first": 3, "last": 2}})",
        R"({"guard.forgotten": [[2, 1]]})", R"({"guard.forgotten": [[1]]})",
        R"({"guard.forgotten": [[1, 9223372036854775807]]})", R"({"guard.rollbacks": "x"})"}) {
    StepGuard guard(CheckpointsConfig{});
    StateRegistry registry;
    guard.register_state(registry);
    nlohmann::json values = registry.values();
    values.update(nlohmann::json::parse(value));
    expect_refusal(ExitCode::kNoValidCheckpoint, "state value",
                   [&] { registry.load_values(values); });
  }
  StepGuard guard(CheckpointsConfig{});
  StateRegistry registry;
  guard.register_state(registry);
  nlohmann::json values = registry.values();
  values["guard.losses"] = std::vector<double>(StepGuard::kWindow + 1, 1.0);
  expect_refusal(ExitCode::kNoValidCheckpoint, "201 losses", [&] { registry.load_values(values); });
}

}  // namespace
}  // namespace trainer
