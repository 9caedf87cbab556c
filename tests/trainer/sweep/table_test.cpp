// What a sweep tells of its trials when the files in their folders and in its queue are not its
// own.
#include "trainer/sweep/table.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/support/temporary_folder.h"
#include "trainer/sweep/queue.h"

namespace trainer {
namespace {

using nlohmann::json;

class SweepTable : public testing::Test {
 protected:
  SweepTable() {
    plan_.name = "s";
    plan_.folder = folder_.path();
    for (const char* id : {"a", "b"}) {
      Trial trial{.id = id};
      trial.config.tokens.train_steps = 100;
      trial.config.tokens.global_batch_size = 16;
      trial.config.tokens.sequence_length = 256;
      trial.cache_before = trial.cache_after = 1;
      plan_.trials.push_back(trial);
    }
  }

  void write(const std::string& name, const json& content) { folder_.write(name, content.dump()); }
  // Everything that is made of the files, and the first row.
  json row() {
    const json report = sweep_report(plan_);
    EXPECT_FALSE(sweep_csv(report).empty());
    EXPECT_FALSE(sweep_markdown(report).empty());
    list_ = sweep_list(plan_, report, {0, 1});
    return report.at("trials").at(0);
  }

  test_support::TemporaryFolder folder_;
  SweepPlan plan_;
  std::string list_;
};

const json kWrong[] = {1, -7.5, 1e300, "text", json::array({1}), true, nullptr};

TEST_F(SweepTable, ResultsOfAnyTypeAreShownOrLeftOut) {
  for (const json& wrong : kWrong) {
    write("a/result.json", {{"steps", 100}, {"validation", wrong}, {"tokens", wrong}});
    EXPECT_EQ(row().at("state"), "done") << wrong;
    EXPECT_EQ(row().at("validation").at("after"), json()) << wrong;
    EXPECT_EQ(row().at("tokens").is_number(), wrong.is_number()) << wrong;
    for (const char* when : {"source", "converted", "start", "recovered"}) {
      write("a/result.json", {{"steps", 100}, {"validation", {{when, wrong}}}});
      EXPECT_EQ(row().at("state"), "done") << when << wrong;
    }
    write("a/result.json", {{"steps", 100},
                            {"validation",
                             {{"recovered", {{"prose", {{"ppl", 2}}}, {"mean_nll", wrong}}},
                              {"converted", {{"prose", wrong}}}}}});
    EXPECT_EQ(row().at("validation").at("after").at("prose").at("ppl"), 2) << wrong;
  }
}

TEST_F(SweepTable, NumbersBeyondAllMeasureDoNotReachTheList) {
  write("a/result.json", {{"steps", 100}, {"tokens", 1e300}, {"tokens_per_second", 0}});
  row();
  EXPECT_NE(list_.find("409.6k tokens to go: time unknown"), std::string::npos) << list_;
  write("a/result.json", {{"steps", 100}, {"tokens", -1e300}, {"tokens_per_second", 1e-300}});
  row();
  EXPECT_NE(list_.find("819.2k tokens to go: unknown"), std::string::npos) << list_;
}

TEST_F(SweepTable, StepsOfARunAreThoseThatItCanHave) {
  const auto tokens = [&](const json& step) {
    write("a/status.json", {{"step", step}});
    return row().at("tokens");
  };
  EXPECT_EQ(tokens(7), 7 * 16 * 256);
  for (const json& step : {json(9'000'000'000'000'000'000), json(101), json(-1), json(1e300),
                           json(UINT64_MAX), json("7")})
    EXPECT_EQ(tokens(step), json()) << step;
}

TEST_F(SweepTable, QueueFilesOfAnyContentAreAStart) {
  for (const json& wrong : kWrong) {
    write("queue/a.json",
          {{"session", wrong}, {"state", wrong}, {"starts", wrong}, {"exit_code", wrong}});
    EXPECT_EQ(row().at("state"), "waiting") << wrong;
    SweepQueue queue(plan_, {0}, "here", true);
    const auto claim = queue.take();
    ASSERT_TRUE(claim) << wrong;
    EXPECT_EQ(read_trial_state(plan_, plan_.trials[0]).at("starts"), wrong == 1 ? 2 : 1) << wrong;
  }
  write("queue/a.json", {{"state", "\x1b[2J"}, {"exit_code", 1000}, {"message", 5}});
  EXPECT_EQ(row().at("state"), "waiting");
  EXPECT_EQ(row().at("exit_code"), json());
  EXPECT_EQ(row().at("message"), json());
}

TEST_F(SweepTable, NamesOfSetsCannotMoveTheCursor) {
  write("a/result.json",
        {{"steps", 100}, {"validation", {{"recovered", {{"\x1b[2J", {{"ppl", 2}}}}}}}});
  EXPECT_EQ(sweep_markdown(sweep_report(plan_)).find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace trainer
