#include "trainer/report/report.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <span>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/files/h5.h"
#include "trainer/files/manifest.h"
#include "trainer/report/conversion_section.h"
#include "trainer/report/recovery.h"
#include "trainer/report/sweep_section.h"
#include "trainer/report/training_section.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class ReportTest : public testing::Test {
 protected:
  fs::path make_run(const std::string& name, const std::string& metrics) {
    fs::create_directories(folder_ / name);
    core::write_file_atomically(folder_ / name / "metrics.jsonl", metrics);
    return folder_ / name;
  }

  void write_sweep(const std::string& trials) {
    core::write_file_atomically(
        folder_ / "sweep.json",
        fmt::format(R"({{"format":"mha2mla-sweep","name":"s","trials":[{}]}})", trials));
  }

  const test_support::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

constexpr const char* kGoodLines =
    R"({"type":"val","step":0,"tokens":0,"val_loss":5.0,"val_loss/prose":5.0})"
    "\n"
    R"({"type":"train","step":1,"tokens":10,"loss":4.5,"lr":0.001,"grad_norm":1.5})"
    "\n"
    R"({"type":"train","step":2,"tokens":20,"loss":null,"lr":0.001,"nan":true})"
    "\n"
    R"({"type":"val","step":2,"tokens":20,"val_loss":4.0,"val_loss/prose":4.0})"
    "\n";

TEST_F(ReportTest, ReadsCurves) {
  const RunRecord run = read_run(make_run("a", kGoodLines));
  ASSERT_NE(run.find("loss"), nullptr);
  EXPECT_EQ(run.find("loss")->step, (std::vector<double>{1, 2}));
  EXPECT_EQ(run.find("loss")->value[0], 4.5);
  EXPECT_TRUE(std::isnan(run.find("loss")->value[1]));
  EXPECT_EQ(run.last("val_loss"), 4.0);
  EXPECT_EQ(run.least("loss"), 4.5);
  EXPECT_EQ(run.tokens(), 20);
  EXPECT_EQ(run.find("grad_norm")->value.size(), 1U);
}

TEST_F(ReportTest, HostileLinesAreLeftOut) {
  const RunRecord run = read_run(make_run(
      "a", std::string(kGoodLines) + R"({"type":"train","step":"three","loss":1})"
                                     "\n"
                                     R"({"type":"train","step":4,"loss":"low","lr":[1]})"
                                     "\n"
                                     R"({"type":["train"],"step":5,"loss":1})"
                                     "\n"
                                     R"([1,2,3])"
                                     "\nnull\n\xff\xfe\n"
                                     R"({"type":"train","step":6,"loss":1e999})"
                                     "\n"
                                     R"({"type":"train","step":7,"loss":1e300,"grad_norm":-1e308})"
                                     "\n"
                                     R"({"type":"train","step":8,"lo)"));
  EXPECT_EQ(run.find("loss")->step, (std::vector<double>{1, 2, 7}));
  ReportContents contents;
  contents.runs.push_back(run);
  EXPECT_FALSE(make_page("t", report_sections(contents, 0)).empty());
}

TEST_F(ReportTest, BrokenRunsAreNamedAndSkipped) {
  const fs::path good = make_run("good", kGoodLines), torn = make_run("torn", "{\"type\"");
  const ReportContents contents = read_report_inputs({folder_ / "missing", good, torn});
  ASSERT_EQ(contents.runs.size(), 1U);
  ASSERT_EQ(contents.skipped.size(), 2U);
  EXPECT_NE(contents.skipped[0].find("missing"), std::string::npos);
  EXPECT_NE(contents.skipped[1].find("torn"), std::string::npos);
}

TEST_F(ReportTest, NothingToShowIsAnError) {
  try {
    read_report_inputs({folder_ / "missing"});
    FAIL() << "no error";
  } catch (const core::Error& error) {
    EXPECT_EQ(error.code(), core::ExitCode::kMissingInput);
  }
}

TEST_F(ReportTest, EqualNamesAreToldApart) {
  fs::create_directories(folder_ / "x");
  fs::create_directories(folder_ / "y");
  std::vector<RunRecord> runs = {
      read_run(make_run("x/run", kGoodLines)), read_run(make_run("y/run", kGoodLines)),
      read_run(make_run("y/run", kGoodLines)), read_run(make_run("y/run", kGoodLines))};
  name_apart(runs);
  EXPECT_EQ(runs[0].name, "x/run");
  EXPECT_EQ(runs[1].name, "y/run");
  EXPECT_EQ(runs[2].name, "y/run (2)");
  EXPECT_EQ(runs[3].name, "y/run (3)");
}

TEST_F(ReportTest, DamagedSweepIsRefused) {
  core::write_file_atomically(folder_ / "sweep.json", R"({"format":"mha2mla-sweep","trials":{}})");
  EXPECT_THROW(read_sweep(folder_), core::Error);
}

TEST_F(ReportTest, SweepReadsTrialsAndTheirRunsOnlyBesideIt) {
  make_run("one", kGoodLines);
  core::write_file_atomically(
      folder_ / "sweep.json",
      R"({"format":"mha2mla-sweep","name":"s","trials":[{"id":"one","run":"one","state":"done",
          "strategy":"high","validation":{"after":{"mean_nll":4.0}}},{"id":"two","run":"../x",
          "state":7,"steps":null},5]})");
  const SweepRecord sweep = read_sweep(folder_);
  ASSERT_EQ(sweep.trials.size(), 2U);
  EXPECT_EQ(sweep.trials[0].after, 4.0);
  EXPECT_TRUE(std::isnan(sweep.trials[1].steps));
  EXPECT_EQ(sweep.runs.size(), 1U);
  EXPECT_EQ(sweep_section(sweep).tables.front().table.rows.size(), 2U);
}

TEST_F(ReportTest, ARunThatSeveralTrialsNameIsReadOnce) {
  make_run("one", kGoodLines);
  fs::create_symlink("one", folder_ / "alias");
  std::string trials = R"({"run":"alias"})";
  for (int i = 0; i < 50; ++i) trials += R"(,{"run":"one"})";
  write_sweep(trials);
  const SweepRecord sweep = read_sweep(folder_);
  EXPECT_EQ(sweep.trials.size(), 51U);
  EXPECT_EQ(sweep.runs.size(), 1U);
  ASSERT_EQ(sweep.notes.size(), 1U);
  EXPECT_NE(sweep.notes[0].find("one: the run of more than one trial"), std::string::npos);
}

TEST_F(ReportTest, SweepOfTooManyTrialsIsRefused) {
  std::string trials = "{}";
  for (int i = 0; i < 20'000; ++i) trials += ",{}";
  write_sweep(trials);
  EXPECT_FAILS(kBadData, "expected at most 20000, got 20001", read_sweep(folder_));
}

TEST_F(ReportTest, FiguresOfTooManyStrategiesOrRanksAreLeftOut) {
  const auto figures = [&](int count, const std::string& strategy, const std::string& pairs) {
    std::string trials;
    for (int i = 0; i < count; ++i)
      trials += fmt::format(
          R"({}{{"strategy":"{}","rope_pairs_per_head":{},"cache_bytes_per_token":{{"after":1}},)"
          R"("validation":{{"after":{{"mean_nll":4.0}}}}}})",
          i > 0 ? "," : "", fmt::format(fmt::runtime(strategy), i),
          fmt::format(fmt::runtime(pairs), i));
    write_sweep(trials);
    const ReportSection section = sweep_section(read_sweep(folder_));
    std::string names;
    for (const Figure& figure : section.figures) names += figure.file + " ";
    for (const std::string& paragraph : section.paragraphs)
      if (paragraph.starts_with("Figures of more than")) names += "noted";
    return names;
  };
  EXPECT_EQ(figures(64, "s{}", "1"), "cache_perplexity strategy_rank ");
  EXPECT_EQ(figures(65, "s{}", "1"), "noted");
  EXPECT_EQ(figures(512, "s", "{}"), "cache_perplexity strategy_rank ");
  EXPECT_EQ(figures(513, "s", "{}"), "cache_perplexity noted");
}

TEST_F(ReportTest, MoreKeptPairsThanAModelMayHaveAreNotRead) {
  const auto notes = [&](const std::string& name, const std::vector<int64_t>& shape) {
    const fs::path folder = make_run(name, kGoodLines);
    const ag::Shape whole = make_shape(shape);
    const std::vector<uint8_t> nothing(static_cast<size_t>(whole.numel()));
    H5Writer writer(folder / "state.h5");
    writer.write(
        {.name = "kept_pairs", .shape = whole, .type = H5Type::u8, .data = nothing.data()});
    writer.close();
    Manifest manifest;
    manifest.tensors["kept_pairs"] = {"state.h5", "uint8", shape,
                                      core::hash_hex(std::as_bytes(std::span(nothing)))};
    manifest.files["state.h5"] = {fs::file_size(folder / "state.h5"),
                                  core::hash_file_hex(folder / "state.h5")};
    core::write_file_atomically(folder / kManifestName, format_manifest(manifest));
    const RunRecord run = read_run(folder);
    std::string text;
    for (const std::string& note : run.notes) text += note;
    return text + (run.conversion ? "read" : "");
  };
  EXPECT_EQ(notes("a", {2, 1, 4}), "read");
  EXPECT_NE(notes("b", {1025, 1, 1}).find("expected at most 1024 layers"), std::string::npos);
  EXPECT_NE(notes("c", {2, 1, (1 << 21) + 1}).find("and 4194304 pairs"), std::string::npos);
}

TEST(ConversionSectionTest, MapsOfTooManyCellsAreLeftOut) {
  const auto maps = [](int64_t layers, int64_t pairs) {
    RunRecord run;
    ConversionRecord& c = run.conversion.emplace();
    c.layers = layers, c.kv_heads = 2, c.pairs = pairs;
    c.kept_pairs.assign(static_cast<size_t>(layers * 2 * pairs), 1);
    const ReportSection section = conversion_section({run}, 0);
    std::string names;
    for (const Figure& figure : section.figures)
      if (figure.file.starts_with("kept_pairs")) names += figure.file + " ";
    for (const std::string& paragraph : section.paragraphs)
      if (paragraph.find("too many to draw") != std::string::npos) names += "noted";
    return names;
  };
  EXPECT_EQ(maps(4, 16), "kept_pairs_by_layer_1 kept_pairs_by_head_1 ");
  EXPECT_EQ(maps(2, 1 << 16), "kept_pairs_by_layer_1 ");
  EXPECT_EQ(maps(2, (1 << 16) + 1), "noted");
}

TEST(ParetoFrontTest, KeepsWhatNoOtherBeats) {
  EXPECT_EQ(pareto_front({1, 2, 3, 4, 2}, {9, 5, 6, 1, 5}), (std::vector<size_t>{0, 1, 3}));
  EXPECT_EQ(pareto_front({kNaN, 2, 3}, {1, kNaN, 4}), (std::vector<size_t>{2}));
  EXPECT_TRUE(pareto_front({}, {}).empty());
}

TEST(SmoothTest, MeanOfNeighboursWithoutGaps) {
  EXPECT_EQ(smooth({1, 2, 6, kNaN, 8}, 1), (std::vector<double>{1.5, 3, 4, 7, 8}));
  EXPECT_EQ(smooth({1, 2, 3}, 0), (std::vector<double>{1, 2, 3}));
}

TEST(RecoveryTest, ShareOfTheGap) {
  RunRecord run;
  run.curves["val_loss"] = {.step = {0, 10, 20}, .tokens = {0, 100, 200}, .value = {5, 4, 3.5}};
  EXPECT_TRUE(recovery_of(run).value.empty());
  run.conversion.emplace().source_validation = 3;
  EXPECT_EQ(recovery_of(run).value, (std::vector<double>{0, 50, 75}));
  run.conversion->source_validation = 6;
  EXPECT_TRUE(recovery_of(run).value.empty());
}

}  // namespace
}  // namespace trainer
