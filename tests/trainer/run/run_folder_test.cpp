// Run folders: one owner, configuration bytes as given, metrics without duplicates after a resume.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/run/run_folder.h"

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
