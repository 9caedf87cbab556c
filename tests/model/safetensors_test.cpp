#include "model/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>

#include "tests/support/fixture.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace model {
namespace {

using core::ExitCode;
using test_support::expect_refusal;
using test_support::TemporaryFolder;

std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + rest;
}

std::string file_of(const std::string& header, const std::string& data = "") {
  return with_length(header.size(), header + data);
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

void expect_bad(const std::string& bytes, const std::string& part) {
  const TemporaryFolder folder;
  const auto path = folder.write("x.safetensors", bytes);
  const auto start = std::chrono::steady_clock::now();
  expect_refusal(ExitCode::kBadData, part, [&] { SafetensorsFile{path}; });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2)) << part;
}

TEST(Safetensors, WriterReproducesFilesOfTheReference) {
  const TemporaryFolder folder;
  for (const std::string name : {"llama-mha", "llama-gqa-tied", "qwen2", "mistral"}) {
    for (const std::string file : {"model", "golden"}) {  // mla_golden has another writer
      const auto source = test_support::fixture_path(name) / (file + ".safetensors");
      const SafetensorsFile original(source);
      std::map<std::string, ag::Tensor> tensors;
      for (const auto& [tensor, info] : original.tensors()) tensors[tensor] = original.load(tensor);
      const auto copy = folder.path() / "copy.safetensors";
      write_safetensors(copy, tensors, original.metadata());
      EXPECT_TRUE(core::read_text(copy) == core::read_text(source)) << source;
    }
  }
}

TEST(Safetensors, RoundTripKeepsTypesShapesMetadataAndBits) {
  const TemporaryFolder folder;
  const std::vector<ag::bf16> halves = {ag::bf16(1.5f), ag::bf16(-0.0f), ag::bf16(3e38f)};
  const std::vector<float> floats = {1, -2, std::nanf("7"), INFINITY, 1e-45f, 6};
  const std::vector<double> doubles = {M_PI};
  const std::vector<int32_t> ints = {INT32_MIN, INT32_MAX};
  std::map<std::string, ag::Tensor> tensors;
  tensors["h"] = ag::Tensor::from_host<ag::bf16>({3}, halves);
  tensors["f \"\\\n\xC3\xA9"] = ag::Tensor::from_host<float>({1, 2, 3}, floats);
  tensors["scalar"] = ag::Tensor::from_host<double>({}, doubles);
  tensors["i"] = ag::Tensor::from_host<int32_t>({2, 1}, ints);
  tensors["empty"] = ag::Tensor::empty({0, 4}, ag::DType::f32);
  write_safetensors(folder.path() / "a", tensors, {{"format", "pt"}, {"b", "\x1B[31m"}});
  const SafetensorsFile file(folder.path() / "a");
  EXPECT_EQ(file.metadata().at("b"), "\x1B[31m");
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const ag::Tensor loaded = file.load(name);
    EXPECT_TRUE(loaded.shape() == tensor.shape()) << name;
    EXPECT_TRUE(loaded.dtype() == tensor.dtype()) << name;
    std::string a(static_cast<size_t>(tensor.bytes()), 'a'), b(a.size(), 'b');
    tensor.copy_to(a.data());
    loaded.copy_to(b.data());
    EXPECT_TRUE(a == b) << name;
  }
  write_safetensors(folder.path() / "none", {});
  EXPECT_EQ(core::read_text(folder.path() / "none"), with_length(8, "{}      "));
  EXPECT_TRUE(SafetensorsFile(folder.path() / "none").tensors().empty());
}

TEST(Safetensors, EveryHalfIsWidenedExactly) {
  std::string data;
  for (uint32_t h = 0; h < 65536; ++h)
    data.append({static_cast<char>(h & 0xFF), static_cast<char>(h >> 8)});
  const TemporaryFolder folder;
  const auto path = folder.write("h", file_of(one("F16", "[65536]", "[0,131072]"), data));
  const std::vector<float> floats = SafetensorsFile(path).load("w").to_host<float>();
  for (uint32_t h = 0; h < 65536; ++h) {
    const int exponent = static_cast<int>(h >> 10 & 31), mantissa = static_cast<int>(h & 1023);
    const float x = floats[h];
    ASSERT_EQ(std::signbit(x), h >= 32768) << h;
    if (exponent == 31) {
      ASSERT_EQ(std::isinf(x), mantissa == 0) << h;
      ASSERT_EQ(std::isnan(x), mantissa != 0) << h;
      continue;
    }
    const double want =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(std::fabs(static_cast<double>(x)), want) << h;
  }
}

TEST(Safetensors, ReadsDataAtAnyAlignment) {
  const float value = 1.25f;
  std::string data = "?";
  data.append(reinterpret_cast<const char*>(&value), sizeof value);
  const int64_t ids[] = {-5, 7};
  data.append(reinterpret_cast<const char*>(ids), sizeof ids);
  std::string header = R"({"b":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},)"
                       R"("f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},)"
                       R"("i":{"dtype":"I64","shape":[2],"data_offsets":[5,21]}})";
  header.resize(header.size() + (header.size() % 2 == 0 ? 1 : 2), ' ');  // an odd length
  const TemporaryFolder folder;
  const SafetensorsFile file(folder.write("x", file_of(header, data)));
  EXPECT_EQ(file.load("f").to_host<float>(), std::vector<float>{1.25f});
  EXPECT_EQ(file.load("i").to_host<int32_t>(), (std::vector<int32_t>{-5, 7}));
  expect_refusal(ExitCode::kBadData, "expected F32, BF16, F16, F64, I32 or I64, got BOOL",
                 [&] { file.load("b"); });
  expect_refusal(ExitCode::kBadData, "nope", [&] { file.load("nope"); });
}

TEST(Safetensors, RefusesWhatATensorCannotHold) {
  const TemporaryFolder folder;
  const int64_t big = int64_t{1} << 31;
  const std::string data(reinterpret_cast<const char*>(&big), sizeof big);
  const auto large = folder.write("i", file_of(one("I64", "[1]", "[0,8]"), data));
  expect_refusal(ExitCode::kBadData, "2147483648 at element 0",
                 [&] { SafetensorsFile(large).load("w"); });
  const auto deep = folder.write("d", file_of(one("F32", "[1,1,1,1,1]", "[0,4]"), "abcd"));
  expect_refusal(ExitCode::kBadData, "at most 4 dimensions",
                 [&] { SafetensorsFile(deep).load("w"); });
}

TEST(Safetensors, RefusesBadLengths) {
  expect_bad("", "8-byte header length, got 0 bytes");
  expect_bad("1234567", "got 7 bytes");
  for (const uint64_t n : {uint64_t{0}, uint64_t{1}, uint64_t{11}, uint64_t{100'000'001},
                           uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7})
    expect_bad(with_length(n, "{}        "), "header length");
  const std::string good = file_of(one("F32", "[2]", "[0,8]"), "12345678");
  expect_bad(good.substr(0, good.size() - 1), "8 bytes, the end of w [0, 8), got 7; incomplete");
  expect_bad(good.substr(0, good.size() / 2), "header length");
  expect_bad(good + "PK", "something was appended");
  expect_bad("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull");
}

TEST(Safetensors, RefusesBadHeaderText) {
  expect_bad(file_of("[1,2]   "), "byte 8: error: header: expected '{'");
  expect_bad(file_of("\xEF\xBB\xBF{}"), "expected '{'");
  expect_bad(file_of(std::string("{}\0{}", 5)), "byte 10");
  expect_bad(file_of("{}\n"), "'}' and spaces");
  expect_bad(file_of("{\"a\xFF\":1}"), "ill-formed UTF-8");
  expect_bad(file_of("{,}"), "JSON");
  expect_bad(file_of("{/**/}"), "JSON");
  expect_bad(file_of(R"({"w":{"dtype":"F32",}})"), "JSON");
  expect_bad(file_of(one("F32", "[1]", "[0,4],\"dtype\":\"F32\""), "abcd"), "dtype twice");
  const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  expect_bad(file_of(R"({"w":)" + entry + R"(,"w":)" + entry + "}", "abcd"), "a duplicate");
  expect_bad(file_of(R"({"w":)" + std::string(100'000, '[') + "}"), "w: error: entry");
  expect_bad(file_of(R"({"w":{"dtype":{"a":1}}})"), "dtype: expected a string");
  expect_bad(file_of(R"({"w":{"dtype":"F32","shape":[1]}})"), "data_offsets");
  expect_bad(file_of(R"({"w":{"strides":[1]}})"), "got strides");
  expect_bad(file_of(R"({"w":null})"), "an object, got null");
}

TEST(Safetensors, RefusesBadMetadata) {
  expect_bad(file_of(R"({"__metadata__":{"a":1}})"), "a: expected a string, got 1");
  expect_bad(file_of(R"({"__metadata__":{"a":{"b":"c"}}})"), "a: expected a string");
  expect_bad(file_of(R"({"__metadata__":["a"]})"), "an object");
  expect_bad(file_of(R"({"__metadata__":{"a":"b","a":"c"}})"), "a twice");
  expect_bad(file_of(R"({"__metadata__":{},"__metadata__":{}})"), "a duplicate");
  expect_bad(file_of("{\"\\u001b[31m\\n\":1}"), "\\x1b[31m\\x0a");
}

TEST(Safetensors, RefusesBadOffsets) {
  const std::string data = "12345678";
  expect_bad(file_of(one("F32", "[1]", "[4,8]"), data), "begin 0, the end of the header");
  expect_bad(file_of(one("F32", "[1]", "[4,0]"), data), "begin <= end");
  expect_bad(file_of(one("F32", "[1]", "[-4,0]"), data), "not negative, got -4");
  expect_bad(file_of(one("F32", "[1]", "[0.0,4.0]"), data), "got 0.0");
  expect_bad(file_of(one("F32", "[1]", "[0,1e1]"), data), "got 1e1");
  expect_bad(file_of(one("F32", "[1]", "[\"0\",4]"), data), "got \"0\"");
  expect_bad(file_of(one("F32", "[1]", "[0]"), data), "1 numbers");
  expect_bad(file_of(one("F32", "[1]", "[0,4,8]"), data), "more numbers");
  expect_bad(file_of(one("F32", "[1]", "[0,18446744073709551615]"), data), "63 bits");
  expect_bad(file_of(one("F32", "[2]", "[0,4]"), "1234"), "8 bytes for F32 [2], got 4 bytes");
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + a +
           R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + b + "}}";
  };
  expect_bad(file_of(two("[0,4]", "[2,6]"), data),
             "b: error: data_offsets: expected begin 4, the "
             "end of a [0, 4), got [2, 6), an overlap");
  expect_bad(file_of(two("[0,4]", "[5,9]"), data + "9"), "a hole");
  expect_bad(file_of(two("[0,4]", "[0,4]"), data), "an overlap");
}

TEST(Safetensors, RefusesBadShapesAndTypes) {
  expect_bad(file_of(one("F32", "[8589934592,8589934592]", "[0,0]")), "below 2^61");
  expect_bad(file_of(one("F32", "[4611686018427387905]", "[0,4]"), "1234"), "below 2^61");
  expect_bad(file_of(one("F32", "[-1]", "[0,4]"), "1234"), "got -1");
  expect_bad(file_of(one("F32", "[1.0]", "[0,4]"), "1234"), "got 1.0");
  expect_bad(file_of(one("F32", "[1e3]", "[0,4]"), "1234"), "got 1e3");
  expect_bad(file_of(one("F32", "[[1]]", "[0,4]"), "1234"), "an array");
  expect_bad(file_of(one("F32", "4", "[0,4]"), "1234"), "an array of integers");
  std::string many = "[1";
  for (int i = 0; i < 1'000'000; ++i) many += ",1";
  expect_bad(file_of(one("F32", many + "]", "[0,4]"), "1234"), "64 dimensions");
  for (const std::string dtype : {"BF16 ", "f32", "float32", ""})
    expect_bad(file_of(one(dtype, "[1]", "[0,4]"), "1234"), "got \"" + dtype + "\"");
  expect_bad(file_of(one("F4", "[3]", "[0,1]"), "1"), "whole number of bytes");
}

TEST(Safetensors, RefusesExcess) {
  expect_bad(file_of("{\"" + std::string(1 << 20, 'n') + "\":1}"), "at most 512 bytes");
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i)
    header += (i ? ",\"" : "\"") + std::to_string(i) +
              R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  expect_bad(file_of(header + "}"), "at most 65536 tensors");
  header = R"({"__metadata__":{)";
  for (int i = 0; i <= 65'536; ++i) header += (i ? ",\"" : "\"") + std::to_string(i) + R"(":"")";
  expect_bad(file_of(header + "}}"), "at most 65536 entries");
}

// The metadata is no tensor, wherever it stands.
TEST(Safetensors, TakesAsManyTensorsAsItSays) {
  std::string header = "{";
  for (int i = 0; i < 65'536; ++i)
    header += "\"" + std::to_string(i) + R"(":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)";
  const TemporaryFolder folder;
  const auto path = folder.write("x.safetensors", file_of(header + R"("__metadata__":{"a":"b"}})"));
  const SafetensorsFile file(path);
  EXPECT_EQ(file.tensors().size(), 65'536U);
  EXPECT_EQ(file.metadata().at("a"), "b");
}

TEST(Safetensors, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& name) {
    expect_refusal(ExitCode::kMissingInput, name, [&] { SafetensorsFile{folder.path() / name}; });
  };
  refused("absent");
  std::filesystem::create_directory(folder.path() / "folder");
  refused("folder");
  ASSERT_EQ(mkfifo((folder.path() / "fifo").c_str(), 0600), 0);
  refused("fifo");
  std::filesystem::create_symlink("nowhere", folder.path() / "dangling");
  refused("dangling");
  std::filesystem::create_symlink("loop", folder.path() / "loop");
  refused("loop");
  const auto secret = folder.write("secret", "x");
  std::filesystem::permissions(secret, std::filesystem::perms::none);
  if (geteuid() != 0)
    expect_refusal(ExitCode::kPermission, "secret", [&] { SafetensorsFile{secret}; });
}

}  // namespace
}  // namespace model
