// H520, H521: what a small HDF5 file can make of few bytes is refused before it is followed or
// read.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/files/h5_links.h"

#include <hdf5.h>

#include "trainer/files/h5.h"

namespace {

namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;

// One dataset of 4,000 bytes, inside of `groups` groups.
void write_nested(const fs::path& path, int groups) {
  const std::vector<float> data(1000, 1.5f);
  std::string name;
  for (int i = 0; i < groups; ++i) name += "g/";
  H5Writer writer(path);
  writer.write({name + "w", {1000}, H5Type::f32, data.data()});
  writer.close();
}

// The file, open for changes that H5Writer does not make.
hid_t open_to_change(const fs::path& path) {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDWR, access);
  H5Pclose(access);
  return file;
}

TEST(H5Links, H520GroupsAreNotFollowedForever) {
  TemporaryFolder folder;
  write_nested(folder / "16.h5", 16);
  EXPECT_EQ(H5Reader(folder / "16.h5").datasets().size(), 1u);
  write_nested(folder / "17.h5", 17);
  EXPECT_FAILS(kBadData, "groups around a name: expected at most 16, got 17",
               H5Reader(folder / "17.h5"));
}

// 1,100 names for one empty group, each of 64,000 bytes for those of the groups around it.
TEST(H5Links, H520NamesMayNotGrowFarBeyondTheFile) {
  TemporaryFolder folder;
  const fs::path path = folder / "a.h5";
  write_nested(path, 1);
  const hid_t file = open_to_change(path);
  ASSERT_GE(file, 0);
  hid_t inner = file;
  for (int i = 0; i < 16; ++i)
    inner =
        H5Gcreate2(inner, std::string(4000, 'n').c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Gclose(H5Gcreate2(inner, "empty", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  for (int i = 0; i < 1100; ++i)
    H5Lcreate_hard(inner, "empty", inner, std::to_string(i).c_str(), H5P_DEFAULT, H5P_DEFAULT);
  ASSERT_GE(H5Fclose(file), 0);
  ASSERT_LT(fs::file_size(path), 1'000'000u);
  EXPECT_FAILS(kBadData, "bytes of names: expected at most 67108864, got", H5Reader{path});
}

TEST(H5Links, H521OneDatasetOfManyNamesIsNotReadForEach) {
  TemporaryFolder folder;
  const fs::path path = folder / "a.h5";
  write_nested(path, 0);
  const hid_t file = open_to_change(path);
  ASSERT_GE(file, 0);
  for (const char* name : {"x", "y", "z"})
    ASSERT_GE(H5Lcreate_hard(file, "w", file, name, H5P_DEFAULT, H5P_DEFAULT), 0);
  ASSERT_GE(H5Fclose(file), 0);
  ASSERT_LT(fs::file_size(path), 4u * 4000);
  EXPECT_FAILS(kBadData, "size: expected datasets of no more bytes than the file", H5Reader{path});
}

}  // namespace
