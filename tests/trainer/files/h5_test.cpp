// Write-once HDF5 files: what goes in comes out, equal contents are equal bytes, everything that is
// not exactly such a file is refused.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "trainer/files/h5.h"

#include <limits>
#include <map>

#include "trainer/files/h5_set.h"

namespace {

using ag::DType;
using ag::Shape;
using ag::Tensor;
namespace fs = std::filesystem;
using namespace trainer;
using namespace test_support;

template <class T>
Tensor ramp(const Shape& shape) {
  std::vector<T> values;
  for (int64_t i = 0; i < shape.numel(); ++i) {
    if constexpr (std::is_same_v<T, int32_t>)
      values.push_back(static_cast<int32_t>(i * 7 - 3));
    else
      values.push_back(T(static_cast<float>(i) * 0.37f - 1.0f));
  }
  return Tensor::from_host<T>(shape, values);
}

std::string bytes_of(const Tensor& t) {
  std::string bytes(static_cast<size_t>(t.bytes()), '\0');
  t.copy_to(bytes.data());
  return bytes;
}

std::map<std::string, Tensor> samples() {
  return {{"a.f32", ramp<float>({3, 5})},
          {"b.bf16", ramp<ag::bf16>({7})},
          {"c.f64", ramp<double>({2, 2, 2})},
          {"d.i32", ramp<int32_t>({4, 1, 2, 3})},
          {"optimizer.m/layers.0.w", ramp<float>({40, 600})},
          {"optimizer.m/norm", ramp<float>({})},
          {"z.empty", ramp<float>({0, 4})}};
}

void write_samples(const fs::path& path) {
  H5Writer writer(path);
  for (const auto& [name, tensor] : samples()) writer.write(h5_source(name, tensor));
  const std::vector<uint8_t> mask = {1, 0, 1, 1, 0, 0};
  writer.write({"zz.mask", {2, 3}, H5Type::u8, mask.data()});
  writer.close();
}

TEST(H5, RoundTripsEveryTypeRankAndGroup) {
  TemporaryFolder folder;
  write_samples(folder / "a.h5");
  const H5Reader reader(folder / "a.h5");
  ASSERT_EQ(reader.datasets().size(), samples().size() + 1);
  for (const auto& [name, tensor] : samples()) {
    const Tensor back = reader.read_tensor(name);
    EXPECT_EQ(back.shape(), tensor.shape()) << name;
    EXPECT_EQ(back.dtype(), tensor.dtype()) << name;
    EXPECT_EQ(bytes_of(back), bytes_of(tensor)) << name;
  }
  std::vector<uint8_t> mask(6);
  reader.read(reader.find("zz.mask"), mask.data());
  EXPECT_EQ(mask, (std::vector<uint8_t>{1, 0, 1, 1, 0, 0}));
}

TEST(H5, EqualContentsAreEqualBytesAtAnotherTime) {
  TemporaryFolder folder;
  write_samples(folder / "a.h5");
  ::sleep(2);  // times in HDF5 files count seconds
  write_samples(folder / "b.h5");
  EXPECT_EQ(slurp(folder / "a.h5"), slurp(folder / "b.h5"));
}

TEST(H5, RefusesWhatIsThereAndWhatIsMissing) {
  TemporaryFolder folder;
  spill(folder / "a.h5", "precious");
  EXPECT_FAILS(kIo, "a.h5", H5Writer(folder / "a.h5"));
  EXPECT_EQ(slurp(folder / "a.h5"), "precious");
  EXPECT_FAILS(kBadData, "a.h5", H5Reader(folder / "a.h5"));
  write_samples(folder / "b.h5");
  const H5Reader reader(folder / "b.h5");
  for (const char* name : {"nothing.here", "a", "a.f32.", "zzz"})
    EXPECT_FAILS(kBadData, std::string(name) + ": error: dataset: missing", reader.find(name));
  const Shape wrong{5, 3};
  EXPECT_FAILS(kBadData, "expected [5, 3], got [3, 5]", reader.read_tensor("a.f32", &wrong));
  EXPECT_FAILS(kBadData, "uint8", reader.read_tensor("zz.mask"));
}

TEST(H5, RefusesEveryTruncation) {
  TemporaryFolder folder;
  write_samples(folder / "a.h5");
  const std::string whole = slurp(folder / "a.h5");
  for (size_t size = 0; size < whole.size(); size += 499) {
    spill(folder / "cut.h5", whole.substr(0, size));
    EXPECT_FAILS(kBadData, "cut.h5", H5Reader(folder / "cut.h5"));
  }
}

// A flipped byte may hit a value, which only the hash can tell, but never ends the process.
TEST(H5, SurvivesEveryFlippedByteOfTheHeaders) {
  TemporaryFolder folder;
  {
    H5Writer writer(folder / "a.h5");
    const Tensor t = ramp<ag::bf16>({3});
    writer.write(h5_source("group/x", t));
    writer.write(h5_source("y", t));
    writer.close();
  }
  const std::string whole = slurp(folder / "a.h5");
  size_t refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string bad = whole;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    spill(folder / "bad.h5", bad);
    const Caught error = caught([&] {
      const H5Reader reader(folder / "bad.h5");
      for (const H5Dataset& d : reader.datasets()) reader.read_tensor(d.name);
    });
    refused += error.code == core::ExitCode::kBadData;
  }
  EXPECT_GT(refused, whole.size() / 4);
}

TEST(H5Set, DealsByBytesAndChecksExactly) {
  TemporaryFolder folder;
  const auto tensors = samples();
  std::vector<H5Source> sources;
  for (const auto& [name, tensor] : tensors) sources.push_back(h5_source(name, tensor));
  auto entries = write_h5_set(folder.path(), "state", sources, 200);
  EXPECT_EQ(entries.at("a.f32").file, "state-00001-of-00004.h5");
  EXPECT_EQ(entries.at("optimizer.m/layers.0.w").file,
            "state-00003-of-00004.h5");  // 60 + 14 + 64 | 96 | 96,000 | 4 + 0
  EXPECT_EQ(entries.at("z.empty").file, "state-00004-of-00004.h5");
  check_h5_set(folder.path(), entries, FiniteScan::yes);

  const auto check = [&](auto change) {
    auto changed = entries;
    change(changed);
    check_h5_set(folder.path(), changed, FiniteScan::no);
  };
  EXPECT_FAILS(kBadData, "b.bf16", check([](auto& e) { e.erase("b.bf16"); }));
  EXPECT_FAILS(kBadData, "extra", check([](auto& e) { e["extra"] = e["a.f32"]; }));
  EXPECT_FAILS(kBadData, "shape", check([](auto& e) { e["a.f32"].shape = {5, 3}; }));
  EXPECT_FAILS(kBadData, "dtype", check([](auto& e) { e["a.f32"].dtype = "int32"; }));
  EXPECT_FAILS(kBadData, "hash", check([](auto& e) { e["a.f32"].hash[0] ^= 1; }));
}

TEST(H5Set, FindsTheFirstNonFiniteValue) {
  TemporaryFolder folder;
  Tensor t = ramp<float>({2, 3});
  static_cast<float*>(t.view().data)[4] = std::numeric_limits<float>::quiet_NaN();
  const auto entries = write_h5_set(folder.path(), "state", {h5_source("w", t)});
  check_h5_set(folder.path(), entries, FiniteScan::no);
  EXPECT_FAILS(kNumerical, "w[4]", check_h5_set(folder.path(), entries, FiniteScan::yes));
}

}  // namespace
