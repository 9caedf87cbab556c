#include "trainer/run/metrics_copies.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "tests/support/temporary_folder.h"
#include "trainer/files/leftovers.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class MetricsCopiesTest : public testing::Test {
 protected:
  std::string csv() const { return core::read_text(folder_ / "metrics.csv"); }
  size_t event_files() const { return core::list_directory(folder_ / "tb").size(); }

  const test_support::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

const json kTrain = {{"type", "train"}, {"step", 1}, {"loss", 0.5}, {"lr", 0.25}};

TEST_F(MetricsCopiesTest, CsvHasARowForEachLine) {
  MetricsCopies copies(folder_, 0);
  copies.append(kTrain);
  copies.append({{"type", "ckpt"}, {"step", 1}});
  copies.append({{"type", "val"}, {"step", 1}, {"val_loss", std::nan("")}});
  EXPECT_EQ(csv(), metrics_csv_head() + "train,1,,,0.5,,0.25,,,,,,\r\nval,1,,,,,,,,,,,\r\n");
}

TEST_F(MetricsCopiesTest, ResumedRunBeginsWithTheLinesThatStand) {
  {
    MetricsCopies copies(folder_, 0);
    copies.append(kTrain);
    copies.append(kTrain);
  }
  core::write_file_atomically(folder_ / "metrics.jsonl", kTrain.dump() + "\n{\"type\":\"tra");
  MetricsCopies copies(folder_, 1);
  EXPECT_EQ(csv(), metrics_csv_head() + metrics_csv_row(kTrain));
  EXPECT_EQ(event_files(), 2U);
}

TEST_F(MetricsCopiesTest, FolderThatCannotBeWrittenThrows) {
  core::write_file_atomically(folder_ / "tb", "a file");
  EXPECT_THROW(MetricsCopies(folder_, 0), core::Error);
}

TEST_F(MetricsCopiesTest, WhatAKillLeavesIsRemovedLater) {
  EXPECT_TRUE(is_abandoned_file("metrics.csv.tmp.123"));
}

}  // namespace
}  // namespace trainer
