// Power loss at any moment of a run that saves and removes checkpoints: from the first acknowledged
// one on there is a valid checkpoint, at least as new, with the right contents.
#include <gtest/gtest.h>

#include "tests/support/crash_clone.h"
#include "tests/support/temporary_folder.h"

#include <algorithm>

#include "core/file.h"
#include "tests/trainer/small_state.h"
#include "trainer/checkpoint/retention.h"

namespace {

namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;
using test_support::CrashJournal;

struct Acknowledgement {
  size_t records;  // of the journal when the save returned
  int64_t step;
};

// Saves steps 1 to 3, keeps one, and saves step 3 once more over itself.
std::vector<Acknowledgement> save_and_retire(const fs::path& root, const CrashJournal& journal) {
  std::vector<Acknowledgement> acknowledged;
  SmallState state;
  for (const int64_t step : {1, 2, 3, 3}) {
    state.set_step(step);
    state.save(root / "checkpoints");
    acknowledged.push_back({journal.size(), step});
    apply_retention(root / "checkpoints", {.keep_last = 1});
  }
  return acknowledged;
}

// Empty if the clone holds what it must, else what is wrong.
std::string fault_of(const fs::path& clone, int64_t acknowledged) {
  const fs::path directory = clone / "checkpoints";
  try {
    if (fs::is_directory(directory)) remove_leftovers(directory);
    const auto valid = newest_valid(directory, Invalid::leave);
    if (!valid) return acknowledged == 0 ? "" : "no checkpoint";
    if (valid->step < acknowledged) return "only step " + std::to_string(valid->step);
    SmallState state;
    state.load(valid->path);
    if (state.bytes() != SmallState::bytes_at(valid->step)) return "other contents";
    for (const auto& entry : fs::directory_iterator(directory)) {
      const std::string name = entry.path().filename();
      if (!name.starts_with("step-") && name != "LATEST") return "left over: " + name;
    }
    return "";
  } catch (const std::exception& e) {
    return e.what();
  }
}

struct Tally {
  int clones = 0, faults = 0;
  std::string first_fault;
};

Tally crash_often(CrashJournal::Forget forget, int clones, uint64_t seed) {
  const TemporaryFolder run(fast_folder());
  CrashJournal journal(run.path(), forget);
  const std::vector<Acknowledgement> acknowledged = save_and_retire(run.path(), journal);
  std::mt19937_64 random(seed);
  Tally tally;
  for (; tally.clones < clones; ++tally.clones) {
    const size_t length = random() % (journal.size() + 1);
    int64_t step = 0;
    for (const Acknowledgement& one : acknowledged)
      if (one.records <= length) step = std::max(step, one.step);
    const TemporaryFolder clone(fast_folder());
    journal.rebuild(length, random, clone.path());
    const std::string fault = fault_of(clone.path(), step);
    if (fault.empty()) continue;
    if (tally.faults++ == 0)
      tally.first_fault = "seed " + std::to_string(seed) + ", after " + std::to_string(length) +
                          " of " + std::to_string(journal.size()) + " records: " + fault;
  }
  return tally;
}

TEST(CrashClone, TheWholeJournalIsTheFolder) {
  const TemporaryFolder run(fast_folder()), clone(fast_folder());
  CrashJournal journal(run.path());
  save_and_retire(run.path(), journal);
  core::sync_directory(run.path() / "checkpoints");  // the last removals, too
  std::mt19937_64 random(1);
  journal.rebuild(journal.size(), random, clone.path());
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(run.path())) {
    const fs::path copy = clone.path() / fs::relative(entry.path(), run.path());
    EXPECT_EQ(fs::is_directory(copy), entry.is_directory()) << copy;
    if (!entry.is_regular_file()) continue;
    ++files;
    EXPECT_TRUE(slurp(copy) == slurp(entry.path())) << copy;
  }
  EXPECT_EQ(files, 3) << "LATEST, MANIFEST.json, state";
  EXPECT_EQ(std::distance(fs::recursive_directory_iterator(clone.path()), {}),
            std::distance(fs::recursive_directory_iterator(run.path()), {}));
}

TEST(CrashClone, AnAcknowledgedCheckpointIsNeverLost) {
  const Tally tally = crash_often(CrashJournal::Forget::nothing, 500, 20240607);
  EXPECT_EQ(tally.faults, 0) << tally.first_fault;
}

// That the test can fail: programs that forget one kind of sync are found.
TEST(CrashClone, FindsMissingSyncs) {
  for (const auto forget : {CrashJournal::Forget::file_syncs, CrashJournal::Forget::folder_syncs}) {
    const Tally tally = crash_often(forget, 100, 7);
    EXPECT_GT(tally.faults, 10) << static_cast<int>(forget);
  }
}

}  // namespace
