// What is recorded, what the bound leaves out, and the file that viewers read.
#include "core/trace.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "core/json.h"
#include "core/trace_file.h"
#include "tests/support/temporary_folder.h"

namespace core::trace {
namespace {

using nlohmann::json;

class Trace : public testing::Test {
 protected:
  void TearDown() override { stop(); }
};

std::vector<Event> all_events() {
  std::vector<Event> events;
  for (const Thread& thread : recording().threads)
    events.insert(events.end(), thread.events.begin(), thread.events.end());
  return events;
}

void record_in_thread(const char* name, int scopes) {
  std::thread([=] {
    name_thread(name);
    for (int i = 0; i < scopes; ++i) const Scope scope("work");
  }).join();
}

TEST_F(Trace, OffByDefault) {
  EXPECT_FALSE(on());
  { const Scope scope("unseen"); }
  start();
  stop();
  { const Scope scope("unseen"); }
  EXPECT_TRUE(all_events().empty());
}

TEST_F(Trace, ScopesNest) {
  start();
  {
    const Scope outer({"outer", "test", {.flops = 2e9, .bytes = 3e6}});
    const ContextScope context({Phase::backward, 7});
    { const Scope inner("inner"); }
  }
  const std::vector<Event> events = all_events();
  ASSERT_EQ(events.size(), 2U);
  const Event &inner = events[0], &outer = events[1];
  EXPECT_STREQ(inner.name, "inner");
  EXPECT_STREQ(outer.name, "outer");
  EXPECT_LE(outer.begin, inner.begin);
  EXPECT_GE(outer.begin + outer.duration, inner.begin + inner.duration);
  EXPECT_EQ(inner.layer, 7);
  EXPECT_EQ(outer.layer, -1);
  EXPECT_EQ(outer.flops, 2e9);
  EXPECT_EQ(outer.bytes, 3e6);
}

TEST_F(Trace, ContextEndsWithItsScope) {
  {
    const ContextScope outer({Phase::backward, 3});
    { const ContextScope inner({Phase::recompute, 4}); }
    EXPECT_EQ(context().phase, Phase::backward);
    EXPECT_EQ(context().layer, 3);
  }
  EXPECT_EQ(context().phase, Phase::forward);
  EXPECT_EQ(context().layer, -1);
}

TEST_F(Trace, WhatIsBeyondTheBoundIsCounted) {
  start(/*events_per_thread=*/4);
  for (int i = 0; i < 10; ++i) const Scope scope("work");
  EXPECT_EQ(all_events().size(), 4U);
  EXPECT_EQ(recording().left_out, 6U);
  start();
  EXPECT_EQ(all_events().size(), 0U);
  EXPECT_EQ(recording().left_out, 0U);
}

TEST_F(Trace, WhatStartedBeforeIsNotRecorded) {
  {
    const Scope early("early");
    start();
  }
  EXPECT_TRUE(all_events().empty());
}

TEST_F(Trace, PathsOfRanks) {
  EXPECT_EQ(path_of_rank("a/trace.json", 0), "a/trace.json");
  EXPECT_EQ(path_of_rank("a/trace.json", 1), "a/trace.rank1.json");
  EXPECT_EQ(path_of_rank("trace", 12), "trace.rank12.json");
}

TEST_F(Trace, FileIsAnArrayOfEvents) {
  const test_support::TemporaryFolder folder;
  start(/*events_per_thread=*/2);
  {
    const ContextScope context({Phase::forward, 5});
    const Scope scope({"gemm forward", "forward", {.flops = 2e9, .bytes = 0}});
  }
  record_in_thread("writer", 3);
  stop();
  write(folder.path() / "trace.json", 3, recording());
  const json trace = read_json(folder.path() / "trace.json");
  ASSERT_TRUE(trace.is_array());
  json gemm, labels;
  std::vector<std::string> threads;
  int64_t work = 0;
  for (const json& event : trace) {
    EXPECT_EQ(event.at("pid"), 3);
    if (event.at("name") == "gemm forward") gemm = event;
    if (event.at("name") == "work") ++work;
    if (event.at("name") == "process_labels") labels = event;
    if (event.at("name") == "thread_name") threads.push_back(event.at("args").at("name"));
  }
  EXPECT_EQ(gemm.at("ph"), "X");
  EXPECT_EQ(gemm.at("cat"), "forward");
  EXPECT_GE(gemm.at("dur").get<double>(), 0);
  EXPECT_GT(gemm.at("ts").get<double>(), 0);
  EXPECT_EQ(gemm.at("args"), json({{"layer", 5}, {"GFLOP", 2.0}}));
  EXPECT_EQ(work, 2);
  EXPECT_EQ(labels.at("args").at("labels"), "1 events left out");
  EXPECT_NE(std::find(threads.begin(), threads.end(), "writer"), threads.end());
}

// Longer than what is written at once.
TEST_F(Trace, LargeFile) {
  const test_support::TemporaryFolder folder;
  start();
  for (int i = 0; i < 20000; ++i) const Scope scope("work");
  stop();
  write(folder.path() / "trace", 0, recording());
  const json trace = read_json(folder.path() / "trace");
  EXPECT_EQ(std::count_if(trace.begin(), trace.end(),
                          [](const json& event) { return event.at("name") == "work"; }),
            20000);
}

// The last test: no later thread gets a buffer.
TEST_F(Trace, WhatIsBeyondTheThreadsIsCounted) {
  start();
  for (size_t i = 0; i < 2 * kMaxThreads; ++i) record_in_thread("many", 1);
  const Recording all = recording();
  EXPECT_EQ(all.threads.size(), kMaxThreads);
  EXPECT_EQ(all_events().size() + all.left_out, 2 * kMaxThreads);
  EXPECT_GT(all.left_out, 0U);
}

}  // namespace
}  // namespace core::trace
