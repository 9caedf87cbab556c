// H509, H512: what HDF5 can hold and we never write is refused by name, before a value is read.
#include <gtest/gtest.h>

#include <hdf5.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/files/h5.h"

namespace {

namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;

// A file made with HDF5 itself. Identifiers other than the file live as long as the process.
class HostileFile : public testing::Test {
 protected:
  HostileFile() {
    h5_initialize();
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    file_ = H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  }
  void dataset(hid_t type, hid_t creation = H5P_DEFAULT, hsize_t extent = 4) {
    const hid_t space = H5Screate_simple(1, &extent, nullptr);
    const hid_t made = H5Dcreate2(file_, "w", type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    ASSERT_GE(made, 0);
    H5Dclose(made);
  }
  void expect_refused(const char* field) {
    ASSERT_GE(H5Fclose(file_), 0);
    EXPECT_FAILS(kBadData, field, H5Reader{path_});
  }

  TemporaryFolder folder_;
  fs::path path_ = folder_ / "a.h5";
  hid_t file_ = -1;
};

TEST_F(HostileFile, PlainDatasetIsRead) {
  dataset(H5T_IEEE_F32LE, [] {
    const hid_t early = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_alloc_time(early, H5D_ALLOC_TIME_EARLY);
    return early;
  }());
  ASSERT_GE(H5Fclose(file_), 0);
  EXPECT_EQ(H5Reader(path_).datasets().size(), 1u);
}

TEST_F(HostileFile, H509SoftLink) {
  H5Lcreate_soft("/elsewhere", file_, "w", H5P_DEFAULT, H5P_DEFAULT);
  expect_refused("link: expected a dataset or group");
}

TEST_F(HostileFile, H509ExternalLink) {
  H5Lcreate_external("/etc/passwd", "/", file_, "w", H5P_DEFAULT, H5P_DEFAULT);
  expect_refused("link: expected a dataset or group");
}

TEST_F(HostileFile, H509StorageInAnotherFile) {
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_external(creation, "/etc/passwd", 0, 16);
  dataset(H5T_IEEE_F32LE, creation);
  expect_refused("layout: expected contiguous");
}

TEST_F(HostileFile, H509VirtualDataset) {
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t extent = 4;
  const hid_t space = H5Screate_simple(1, &extent, nullptr);
  ASSERT_GE(H5Pset_virtual(creation, space, "other.h5", "w", space), 0);
  dataset(H5T_IEEE_F32LE, creation);
  expect_refused("layout: expected contiguous");
}

TEST_F(HostileFile, H509Filter) {
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  const hsize_t chunk = 2;
  H5Pset_chunk(creation, 1, &chunk);
  H5Pset_shuffle(creation);
  dataset(H5T_IEEE_F32LE, creation);
  expect_refused("layout: expected contiguous");
}

TEST_F(HostileFile, H509CompactStorage) {
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_layout(creation, H5D_COMPACT);
  dataset(H5T_IEEE_F32LE, creation);
  expect_refused("layout: expected contiguous");
}

TEST_F(HostileFile, H509CompoundType) {
  const hid_t type = H5Tcreate(H5T_COMPOUND, 8);
  H5Tinsert(type, "a", 0, H5T_IEEE_F32LE);
  dataset(type);
  expect_refused("type: expected float32");
}

TEST_F(HostileFile, H509VariableLengthType) {
  dataset(H5Tvlen_create(H5T_IEEE_F32LE));
  expect_refused("type: expected float32");
}

TEST_F(HostileFile, H506OtherByteOrder) {
  dataset(H5T_IEEE_F32BE);
  expect_refused("type: expected float32");
}

TEST_F(HostileFile, H506UnmarkedSixteenBits) {
  dataset(H5T_STD_U16LE);
  expect_refused("type: expected float32");
}

TEST_F(HostileFile, H512HugeDatasetInASmallFile) {
  dataset(H5T_IEEE_F32LE, H5P_DEFAULT, hsize_t{1'000'000'000'000'000});  // never allocated
  expect_refused("size: expected the bytes of its shape");
}

TEST_F(HostileFile, H512SizeThatOverflows) {
  dataset(H5T_IEEE_F32LE, H5P_DEFAULT, (hsize_t{1} << 62) - 1);
  expect_refused("size: expected the bytes of its shape");
}

}  // namespace
