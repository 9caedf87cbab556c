// The driver writes what HDF5's own "sec2" driver writes, and lets no failed call pass.
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "trainer/files/h5_driver.h"

#include <hdf5.h>

#include <cerrno>
#include <cstring>
#include <functional>

#include "core/io.h"
#include "tests/support/refusal.h"
#include "trainer/files/h5.h"

namespace {

namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;
using core::io::Operation;

// Groups, datasets from one byte to beyond HDF5's buffers, attributes, and a dataset overwritten.
void write_file(const fs::path& path, hid_t access) {
  const hid_t creation = H5Pcreate(H5P_FILE_CREATE);
  H5Pset_obj_track_times(creation, false);
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation, access);
  ASSERT_GE(file, 0);
  const hid_t group_list = H5Pcreate(H5P_GROUP_CREATE), list = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_obj_track_times(group_list, false);
  H5Pset_obj_track_times(list, false);
  uint32_t state = 1;
  for (const char* name : {"g", "g/h"})
    H5Gclose(H5Gcreate2(file, name, H5P_DEFAULT, group_list, H5P_DEFAULT));
  const hsize_t sizes[] = {1, 100, 4096, 70'000, 3, 1'000'000, 2048};
  for (size_t i = 0; i < std::size(sizes); ++i) {
    std::vector<uint8_t> data(sizes[i]);
    for (uint8_t& byte : data) byte = static_cast<uint8_t>((state = state * 1664525 + 1) >> 24);
    const hid_t space = H5Screate_simple(1, &sizes[i], nullptr);
    const std::string name = (i % 2 == 0 ? "g/h/d" : "d") + std::to_string(i);
    const hid_t set =
        H5Dcreate2(file, name.c_str(), H5T_STD_U8LE, space, H5P_DEFAULT, list, H5P_DEFAULT);
    EXPECT_GE(H5Dwrite(set, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data()), 0);
    const hid_t mark = H5Acreate2(set, "mark", H5T_STD_U8LE, space, H5P_DEFAULT, H5P_DEFAULT);
    if (mark >= 0) {  // larger ones are refused: attributes are for small data
      EXPECT_GE(H5Awrite(mark, H5T_STD_U8LE, data.data()), 0);
      H5Aclose(mark);
    }
    EXPECT_GE(H5Dwrite(set, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data.data()), 0);
    H5Dclose(set);
    H5Sclose(space);
  }
  for (const hid_t id : {group_list, list, creation}) H5Pclose(id);
  EXPECT_GE(H5Fclose(file), 0);
}

TEST(H5Driver, WritesTheBytesOfSec2) {
  h5_initialize();
  TemporaryFolder folder;
  for (const H5F_libver_t bound : {H5F_LIBVER_V18, H5F_LIBVER_V110}) {
    const hid_t ours = H5Pcreate(H5P_FILE_ACCESS), sec2 = H5Pcreate(H5P_FILE_ACCESS);
    for (const hid_t list : {ours, sec2}) H5Pset_libver_bounds(list, bound, bound);
    ASSERT_TRUE(use_h5_driver(ours));
    ASSERT_GE(H5Pset_fapl_sec2(sec2), 0);
    const fs::path a = folder / std::to_string(bound), b = a.string() + ".sec2";
    write_file(a, ours);
    write_file(b, sec2);
    EXPECT_GT(fs::file_size(a), 1'000'000u);
    EXPECT_TRUE(slurp(a) == slurp(b)) << "bound " << bound;
    for (const hid_t list : {ours, sec2}) H5Pclose(list);
  }
}

// Fails the n-th call that `chosen` picks, and notes what the file was asked afterwards.
class Failing : public core::io::Observer {
 public:
  Failing(Operation chosen, int n, int error_number)
      : chosen_(chosen), left_(n), error_number_(error_number) {
    core::io::install_observer(this);
  }
  ~Failing() override { core::io::install_observer(nullptr); }
  core::io::Verdict before(const core::io::Call& call) override {
    if (failed_ && (call.operation == Operation::write || call.operation == Operation::truncate))
      ++writes_after_failure_;
    if (call.operation != chosen_ || --left_ != 0) return {};
    failed_ = true;
    return {.error_number = error_number_};
  }
  void after(const core::io::Call&, int64_t) override {}

  bool failed() const { return failed_; }
  int writes_after_failure() const { return writes_after_failure_; }

 private:
  Operation chosen_;
  int left_, error_number_;
  bool failed_ = false;
  int writes_after_failure_ = 0;
};

void write_two_tensors(const fs::path& path) {
  const std::vector<float> data(3000, 1.5f);
  H5Writer writer(path);
  writer.write({"a", {3000}, H5Type::f32, data.data()});
  writer.write({"group/b", {50, 60}, H5Type::f32, data.data()});
  writer.close();
}

int open_files() {
  return static_cast<int>(
      std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

TEST(H5Driver, EveryFailedCallIsReportedAndNothingIsWrittenAfterIt) {
  h5_initialize();
  TemporaryFolder folder;
  const int open_before = open_files();
  int cases = 0;
  // Not open: HDF5 first looks whether the file is there, and that may fail.
  for (const Operation operation :
       {Operation::stat, Operation::write, Operation::truncate, Operation::sync, Operation::close})
    for (int n = 1;; ++n) {
      const fs::path path = folder / (std::to_string(cases++) + ".h5");
      const Failing failing(operation, n, ENOSPC);
      bool refused = false;
      try {
        write_two_tensors(path);
      } catch (const core::Error& e) {
        refused = true;
        EXPECT_EQ(e.code(), core::ExitCode::kIo) << e.what();
        EXPECT_NE(std::string(e.what()).find("No space left"), std::string::npos) << e.what();
      }
      EXPECT_EQ(refused, failing.failed())
          << core::io::name_of(operation) << " " << n << " passed unnoticed";
      EXPECT_EQ(failing.writes_after_failure(), 0) << core::io::name_of(operation) << " " << n;
      if (!failing.failed()) break;
    }
  EXPECT_GE(cases, 2 * 5) << "each call fails at least once";
  EXPECT_EQ(open_files(), open_before) << "a failed file stays open";
}

// As what they are: kBadData would be the file's fault.
TEST(H5Driver, FailedReadsAreReported) {
  h5_initialize();
  TemporaryFolder folder;
  write_two_tensors(folder / "a.h5");
  for (const Operation operation : {Operation::open, Operation::stat, Operation::read})
    for (const int error_number : {EIO, ENOMEM, EMFILE, ENFILE})
      for (int n = 1;; ++n) {
        const Failing failing(operation, n, error_number);
        bool refused = false;
        try {
          const H5Reader reader(folder / "a.h5");
          reader.read_tensor("a");
          reader.read_tensor("group/b");
        } catch (const core::Error& e) {
          refused = true;
          EXPECT_EQ(e.code(), core::ExitCode::kIo) << e.what();
          EXPECT_NE(std::string(e.what()).find(std::strerror(error_number)), std::string::npos)
              << e.what();
        }
        EXPECT_EQ(refused, failing.failed()) << core::io::name_of(operation) << " " << n;
        if (!failing.failed()) break;
      }
}

}  // namespace
