// Every file operation of saving fails once, and from some operation on: what was saved before is
// still there, what is told to be saved is, and nothing temporary stays.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <set>

#include "tests/support/io_fault.h"
#include "tests/support/temporary_folder.h"
#include "tests/trainer/small_state.h"
#include "trainer/checkpoint/retention.h"
#include "trainer/run/run_folder.h"

namespace {

namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;
using core::io::Operation;
using nlohmann::json;
using test_support::FaultKind;
using test_support::FaultLength;
using test_support::IoFault;

// What a run writes, with what it was told about each part.
class SavingRun {
 public:
  SavingRun() : run_(temporary_.path(), "project", "run") {
    save(1);
    run_.write_status({{"step", 1}});
    metrics_.emplace(run_.metrics(), -1);
    metrics_->append({{"step", 1}});
  }

  void continue_under_fault() {
    attempt([&] { save(2); });
    attempt([&] { save(3); });
    attempt([&] { apply_retention(run_.checkpoints(), {.keep_last = 2}); });
    for (int step : {2, 3}) attempt([&] { metrics_->append({{"step", step}}); });
    attempt([&] { run_.write_status({{"step", 3}}); });
    attempt([&] {
      SmallState state;
      state.set_step(3);
      FolderContents contents{.tag = "model", .prefix = "model", .sources = state.sources()};
      write_folder(model(), std::move(contents), IfExists::refuse);
      model_written_ = true;
    });
  }

  // After the fault has gone.
  void check(bool leftovers_allowed) {
    remove_leftovers(run_.checkpoints());
    const auto valid = newest_valid(run_.checkpoints(), Invalid::leave);
    ASSERT_TRUE(valid);
    EXPECT_TRUE(valid->warnings.empty());
    EXPECT_GE(valid->step, acknowledged_);
    for (const auto& [step, path] : find_checkpoints(run_.checkpoints())) {
      SmallState state;
      state.load(path);
      EXPECT_EQ(state.bytes(), SmallState::bytes_at(step));
    }
    for (const auto& entry : fs::directory_iterator(run_.checkpoints())) {
      const std::string name = entry.path().filename();
      EXPECT_TRUE(name.starts_with("step-") || name == "LATEST") << name;
    }
    EXPECT_NO_THROW(metrics_->append({{"step", 4}})) << "goes on when there is space again";
    const std::string lines = slurp(run_.metrics());
    for (size_t begin = 0; begin < lines.size();) {
      const size_t end = lines.find('\n', begin);
      ASSERT_NE(end, std::string::npos) << "a torn last line";
      EXPECT_TRUE(json::accept(lines.substr(begin, end - begin))) << "a torn line: " << lines;
      begin = end + 1;
    }
    EXPECT_TRUE(json::accept(slurp(run_.path() / "status.json")));
    EXPECT_TRUE(fs::exists(model()) || !model_written_);
    if (fs::exists(model())) verify_folder(model(), Depth::full);
    if (leftovers_allowed) return;
    static const std::set<std::string> kExpected = {"checkpoints", "metrics.jsonl", "model",
                                                    "run.lock", "status.json"};
    for (const auto& entry : fs::directory_iterator(run_.path()))
      EXPECT_TRUE(kExpected.contains(entry.path().filename())) << entry.path();
  }

  bool all_done() const { return failures_ == 0; }

 private:
  void save(int64_t step) {
    SmallState state;
    state.set_step(step);
    state.save(run_.checkpoints());
    acknowledged_ = step;
  }
  template <class Action>
  void attempt(Action&& action) {
    try {
      action();
    } catch (const core::Error& e) {
      ++failures_;
      EXPECT_EQ(e.code(), core::ExitCode::kIo) << e.what();
    }
  }
  fs::path model() const { return run_.path() / "model"; }

  TemporaryFolder temporary_{fast_folder()};
  RunFolder run_;
  std::optional<MetricsWriter> metrics_;
  int64_t acknowledged_ = 0;
  bool model_written_ = false;
  int failures_ = 0;
};

// May fail without anything being lost: the hint LATEST, removing, closing after a sync or a read,
// asking the kernel to forget what it has cached, taking back a torn line.
bool is_harmless(const IoFault::Fired& fired) {
  switch (fired.operation) {
    case Operation::unlink:
    case Operation::rmdir:
    case Operation::list:
    case Operation::close:
    case Operation::truncate:
    case Operation::open:
      return true;
    case Operation::sync:
      return fired.path.find("LATEST") != std::string::npos ||
             (fired.path.ends_with("/checkpoints") && fired.renamed.ends_with("/LATEST"));
    default:
      return fired.path.find("LATEST") != std::string::npos;
  }
}

// Returns how many runs it took.
int64_t sweep(FaultKind kind, FaultLength length) {
  for (int64_t nth = 1;; ++nth) {
    SavingRun run;
    bool fired = false;
    IoFault::Fired first;
    {
      IoFault fault(kind, length, nth);
      run.continue_under_fault();
      if ((fired = fault.fired())) first = fault.first();
    }
    const std::string where =
        fmt::format("operation {}: {} {}", nth, core::io::name_of(first.operation), first.path);
    SCOPED_TRACE(where);
    // What cannot be removed while everything fails stays; it has a name that says what it is.
    run.check(length == FaultLength::from_then_on);
    if (!fired) {
      EXPECT_TRUE(run.all_done());
      return nth;
    }
    if (run.all_done() && kind != FaultKind::short_write) {
      EXPECT_TRUE(is_harmless(first)) << "passed unnoticed: " << where;
    }
    if (kind == FaultKind::short_write) {
      EXPECT_TRUE(run.all_done()) << "not gone on with: " << where;
    }
    if (testing::Test::HasFailure()) return nth;
  }
}

class IoFailure : public testing::TestWithParam<std::tuple<FaultKind, FaultLength>> {};

TEST_P(IoFailure, LosesNothing) {
  const auto [kind, length] = GetParam();
  const int64_t runs = sweep(kind, length);
  RecordProperty("runs", std::to_string(runs));
  EXPECT_GT(runs, 10);
}

std::string name_of_case(const testing::TestParamInfo<IoFailure::ParamType>& info) {
  static const char* const kKinds[] = {"FullDisk", "Quota", "IoError", "ShortWrite"};
  return std::string(kKinds[static_cast<int>(std::get<0>(info.param))]) +
         (std::get<1>(info.param) == FaultLength::once ? "Once" : "FromThenOn");
}

INSTANTIATE_TEST_SUITE_P(
    Every, IoFailure,
    testing::Combine(testing::Values(FaultKind::full_disk, FaultKind::quota, FaultKind::io_error,
                                     FaultKind::short_write),
                     testing::Values(FaultLength::once, FaultLength::from_then_on)),
    name_of_case);

}  // namespace
