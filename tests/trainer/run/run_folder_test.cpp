// Run folders: one owner, configuration bytes as given, metrics without duplicates after a resume.
#include <gtest/gtest.h>

#include "tests/support/io_fault.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/run/run_folder.h"
#include "trainer/run/run_status.h"

#include <fmt/format.h>

#include <cmath>

#include "core/file.h"

namespace {

namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;
using nlohmann::json;

TEST(RunFolder, HasOneOwnerAtATime) {
  TemporaryFolder folder;
  {
    const RunFolder run(folder.path(), "project", "run");
    EXPECT_EQ(run.path(), folder.path() / "project/run");
    EXPECT_TRUE(fs::is_directory(run.checkpoints()));
    EXPECT_FAILS(kRunLocked, "pid " + std::to_string(::getpid()),
                 RunFolder(folder.path(), "project", "run"));
    EXPECT_FAILS(kRunLocked, "host \"", RunFolder(folder.path(), "project", "run"));
    const RunFolder beside(folder.path(), "project", "other");
  }
  const RunFolder again(folder.path(), "project", "run");
}

TEST(RunFolder, KnowsAnOwnerWithoutMakingAnything) {
  TemporaryFolder folder;
  EXPECT_NO_THROW(require_no_owner(folder / "p/r"));
  EXPECT_FALSE(fs::exists(folder / "p"));
  {
    const RunFolder run(folder.path(), "p", "r");
    EXPECT_FAILS(kRunLocked, "pid " + std::to_string(::getpid()), require_no_owner(run.path()));
  }
  EXPECT_NO_THROW(require_no_owner(folder / "p/r"));
}

TEST(RunFolder, SeesThatAnotherOneHasItsPlace) {
  TemporaryFolder folder;
  const RunFolder run(folder.path(), "p", "r");
  EXPECT_NO_THROW(run.require_in_place());
  fs::rename(folder / "p", folder / "moved");
  EXPECT_FAILS(kIo, "got none", run.require_in_place());
  const RunFolder other(folder.path(), "p", "r");
  other.write_status({{"state", "theirs"}});
  EXPECT_FAILS(kIo, "got another one", run.write_status({{"state", "mine"}}));
  EXPECT_EQ(json::parse(slurp(other.path() / "status.json")), (json{{"state", "theirs"}}));
}

// What cannot be looked at has not moved.
TEST(RunFolder, AFailingLookIsToldAsSuch) {
  TemporaryFolder folder;
  const RunFolder run(folder.path(), "p", "r");
  for (int64_t nth = 1; nth <= 3; ++nth) {  // stat, open, stat
    const IoFault fault(FaultKind::io_error, FaultLength::once, nth);
    EXPECT_FAILS(kIo, "Input/output error", run.require_in_place());
  }
  EXPECT_NO_THROW(run.require_in_place());
}

TEST(RunStatus, TheFirstEndStandsAndAnyRankCanWriteIt) {
  TemporaryFolder folder;
  const RunFolder run(folder.path(), "p", "r");
  const auto written = [&] { return json::parse(slurp(run.path() / "status.json")); };
  RunStatus first(&run, run.path()), second(nullptr, run.path());
  first.set_step(7);
  first.write("training");
  second.set_step(8);
  second.write("training");  // is rank 0's to say
  EXPECT_EQ(written(), (json{{"state", "training"}, {"step", 7}}));
  second.write_end(core::Error(core::ExitCode::kHang, "rank 0 is stuck"), "");
  EXPECT_EQ(
      written(),
      (json{{"state", "hung"}, {"step", 7}, {"exit_code", 86}, {"message", "rank 0 is stuck"}}));
  second.write_end(core::Error(core::ExitCode::kIo, "later"), "");
  EXPECT_EQ(written().at("message"), "rank 0 is stuck");
}

TEST(RunFolder, KeepsConfigurationBytesAndReplacesStatus) {
  TemporaryFolder folder;
  const RunFolder run(folder.path(), "p", "r");
  run.write_config("# mine\r\na: 1", "a: 1\n");
  EXPECT_EQ(slurp(run.path() / "config.yaml"), "# mine\r\na: 1");
  EXPECT_EQ(slurp(run.path() / "config.resolved.yaml"), "a: 1\n");
  run.write_status({{"state", "running"}});
  run.write_status({{"state", "done"}});
  EXPECT_EQ(json::parse(slurp(run.path() / "status.json")), (json{{"state", "done"}}));
}

TEST(RunFolder, RefusesNamesAndPlacesInOneLine) {
  TemporaryFolder folder;
  for (const char* name : {"", "..", "a/b", ".hidden"})
    EXPECT_FAILS(kBadConfig, "general.run", RunFolder(folder.path(), "p", name));
  spill(folder / "file", "x");
  EXPECT_FAILS(kIo, "a file", RunFolder(folder / "file", "p", "r"));
  EXPECT_FAILS(kIo, "a file", RunFolder(folder / "file/deeper", "p", "r"));
}

TEST(Metrics, ResumeDropsLaterAndTornLines) {
  TemporaryFolder folder;
  const fs::path path = folder / "metrics.jsonl";
  {
    MetricsWriter metrics(path, 0);
    for (int step = 1; step <= 4; ++step) metrics.append({{"step", step}, {"loss", 0.5}});
  }
  std::ofstream(path, std::ios::app) << R"({"step": 1, "lo)";
  {
    MetricsWriter metrics(path, 2);
    metrics.append({{"step", 3}, {"loss", 0.25}});
  }
  EXPECT_EQ(slurp(path),
            "{\"loss\":0.5,\"step\":1}\n{\"loss\":0.5,\"step\":2}\n{\"loss\":0.25,\"step\":3}\n");
  EXPECT_EQ(slurp(folder / "metrics.discarded.jsonl"),
            "{\"loss\":0.5,\"step\":3}\n{\"loss\":0.5,\"step\":4}\n{\"step\": 1, \"lo\n");
}

// {"a":[[...]],"step":STEP}, with so many lists.
std::string nested_line(size_t depth, int step) {
  return R"({"a":)" + std::string(depth, '[') + std::string(depth, ']') +
         fmt::format(R"(,"step":{}}})", step);
}

std::vector<int> steps_read(const fs::path& path) {
  std::vector<int> steps;
  for_each_metrics_line(path, [&](const json& line) { steps.push_back(line.value("step", -1)); });
  return steps;
}

// A line of 1 MiB takes many times that once it is parsed, and a deep one the stack where it is
// copied.
TEST(Metrics, RP03LongAndDeepLinesArePassedOver) {
  TemporaryFolder folder;
  const fs::path path = folder / "metrics.jsonl";
  const auto padded = [](size_t bytes, int step) {
    const std::string line = nested_line(1, step);
    return line.substr(0, 1) + std::string(bytes - line.size(), ' ') + line.substr(1) + "\n";
  };
  constexpr size_t kLimit = size_t{1} << 20;
  const std::string kept = nested_line(10, 1) + "\n" + padded(kLimit, 2);
  const std::string bad = nested_line(100, 3) + "\n" + nested_line(100'000, 4) + "\n" +
                          padded(kLimit + 1, 5) + padded(3 * kLimit, 6) + "{}\n[1]\nno\n";
  spill(path, kept + bad + nested_line(1, 7) + "\n" + padded(kLimit + 1, 8));
  EXPECT_EQ(steps_read(path), (std::vector{1, 2, 7}));
  MetricsWriter(path, 6);
  EXPECT_TRUE(slurp(path) == kept);
  EXPECT_TRUE(slurp(folder / "metrics.discarded.jsonl").starts_with(bad));
  spill(path, nested_line(1, 1) + "\n" + nested_line(1, 2));
  EXPECT_EQ(steps_read(path), (std::vector{1, 2})) << "the last line need not end";
  EXPECT_TRUE(steps_read(folder / "missing.jsonl").empty());
}

TEST(Metrics, NonFiniteNumbersAreMarked) {
  TemporaryFolder folder;
  {
    MetricsWriter metrics(folder / "m.jsonl", 0);
    metrics.append({{"step", 1}, {"loss", std::nan("")}, {"nested", {{"x", INFINITY}, {"y", 1}}}});
    metrics.append({{"step", 2}, {"loss", 1.5}});
  }
  EXPECT_EQ(slurp(folder / "m.jsonl"),
            "{\"loss\":null,\"nan\":true,\"nested\":{\"x\":null,\"y\":1},\"step\":1}\n"
            "{\"loss\":1.5,\"step\":2}\n");
}

}  // namespace
