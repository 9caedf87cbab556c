// Files of torch.save: tests/data_files/torch-tensors/, written by PyTorch, and those written here.
#include "model/torch_tensor.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/file.h"
#include "model/stored_zip.h"
#include "model/torch_pickle.h"
#include "tests/support/fixture.h"
#include "tests/support/refusal.h"

namespace model {
namespace {

using core::ExitCode;
using test_support::expect_refusal;

TorchTensor torch_fixture(const std::string& name) {
  return read_torch_tensor(test_support::fixture_path("torch-tensors") / name);
}

TorchTensor parse_torch(const std::string& file) {
  return parse_torch_tensor("x.pth", std::as_bytes(std::span(file)));
}

std::vector<double> counting(int count, double factor = 1, double first = 0) {
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = first + factor * static_cast<double>(i);
  return values;
}

TEST(TorchTensor, ReadsWhatPyTorchWrites) {
  const std::vector<int64_t> shape = {2, 2, 3};
  EXPECT_EQ(torch_fixture("float32.pth").shape, shape);
  EXPECT_EQ(torch_fixture("float32.pth").values, counting(12, 0.25));
  EXPECT_EQ(torch_fixture("bfloat16.pth").values, counting(12));
  EXPECT_EQ(torch_fixture("int64.pth").values, counting(12, 1, -3));
}

TEST(TorchTensor, FollowsStrides) {
  const TorchTensor tensor =
      torch_fixture("uint8-strided.pth");  // [2, 3, 4] with 1, 2 swapped, from 1
  EXPECT_EQ(tensor.shape, (std::vector<int64_t>{2, 3, 3}));
  EXPECT_EQ(tensor.values, (std::vector<double>{1, 5, 9, 2, 6, 10, 3, 7, 11,  //
                                                13, 17, 21, 14, 18, 22, 15, 19, 23}));
}

TEST(TorchTensor, ReadsWhatItWrites) {
  std::vector<float> scores(2 * 3 * 32);
  std::iota(scores.begin(), scores.end(), 0.5F);
  const TorchTensor read = parse_torch(format_torch_tensor({2, 3, 32}, scores));
  EXPECT_EQ(read.shape, (std::vector<int64_t>{2, 3, 32}));
  EXPECT_EQ(read.values, counting(2 * 3 * 32, 1, 0.5));
  const std::vector<uint8_t> ranks = {0, 255, 7};
  EXPECT_EQ(parse_torch(format_torch_tensor({1, 3}, ranks)).values,
            (std::vector<double>{0, 255, 7}));
}

TEST(TorchTensor, RefusesOtherFiles) {
  const auto refused = [](const std::string& name, const std::string& part) {
    expect_refusal(ExitCode::kBadData, part, [&] { torch_fixture(name); });
  };
  refused("dictionary.pth", "data.pkl: error: pickle: expected one tensor of torch.save");
  refused("old-format.pth", "expected a zip archive of torch.save, got another file");
}

// Whatever byte is changed or missing: refused, or still a tensor of that size.
TEST(TorchTensor, SurvivesDamage) {
  const std::string good =
      core::read_text(test_support::fixture_path("torch-tensors") / "float32.pth");
  const auto survives = [](const std::string& bytes) {
    try {
      EXPECT_LE(parse_torch(bytes).values.size(), uint64_t{1} << 26);
    } catch (const core::Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kBadData) << e.what();
    }
  };
  for (size_t i = 0; i < good.size(); ++i) {
    survives(good.substr(0, i));
    for (const char mask : {'\x01', '\x80', '\xff'}) {
      std::string bytes = good;
      bytes[i] = static_cast<char>(bytes[i] ^ mask);
      survives(bytes);
    }
  }
}

TEST(TorchTensor, RefusesChangedContents) {
  const std::vector<uint8_t> ranks = {1, 2, 3, 4, 5, 6};
  std::string bytes = format_torch_tensor({6}, ranks);
  bytes[bytes.find("\x01\x02\x03\x04\x05\x06")] = 9;
  expect_refusal(ExitCode::kBadData, "expected contents of the recorded check sum",
                 [&] { parse_torch(bytes); });
}

// A pickle that PyTorch could have written, in a sound archive beside `bytes` bytes of storage.
std::string archive_of(const std::string& pickle, size_t bytes) {
  const std::string storage(bytes, '\1');
  return format_stored_zip({{"a/data.pkl", pickle}, {"a/data/0", storage}});
}

std::string little_endian(uint32_t value) {
  std::string bytes;
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

TEST(TorchTensor, RefusesMoreElementsThanItsStorageHas) {
  std::string pickle = format_torch_pickle("ByteStorage", {5, 1000});
  EXPECT_EQ(parse_torch(archive_of(pickle, 5000)).values.size(), 5000U);
  // Strides (1000, 1) become (0, 1): five times the same thousand.
  const std::string strides = "(J" + little_endian(1000) + "J" + little_endian(1) + "t";
  const size_t at = pickle.rfind(strides);
  ASSERT_NE(at, std::string::npos);
  pickle.replace(at + 2, 4, little_endian(0));
  expect_refusal(ExitCode::kBadData,
                 "expected at most the 4999 elements of its storage, got 5000 (an expanded tensor",
                 [&] { parse_torch(archive_of(pickle, 4999)); });
  EXPECT_EQ(parse_torch(archive_of(pickle, 5000)).values.size(), 5000U);
}

TEST(TorchTensor, RefusesMoreThanEightDimensions) {
  const std::vector<int64_t> eight(8, 1), nine(9, 1);
  EXPECT_EQ(parse_torch(archive_of(format_torch_pickle("ByteStorage", eight), 1)).shape, eight);
  expect_refusal(ExitCode::kBadData, "at most 8 dimensions, got 9",
                 [&] { parse_torch(archive_of(format_torch_pickle("ByteStorage", nine), 1)); });
}

// A text that is remembered once and recalled a thousand times must not become a thousand texts of
// the size of the file.
TEST(TorchTensor, RefusesLongTexts) {
  const auto with_text = [](uint32_t size) {
    return archive_of("\x80\x02X" + little_endian(size) + std::string(size, 'x') + ".", 1);
  };
  expect_refusal(ExitCode::kBadData, "got another object", [&] { parse_torch(with_text(4096)); });
  expect_refusal(ExitCode::kBadData, "got a text of 4097 bytes",
                 [&] { parse_torch(with_text(4097)); });
}

TEST(TorchTensor, RefusesRecordsThatOverlapOrShareAName) {
  const std::string bytes(100, '\1');
  std::string file = format_stored_zip({{"a/1", bytes}, {"a/2", bytes}, {"a/3", bytes}});
  EXPECT_NO_THROW(StoredZip("x.pth", file));
  std::string twice = file;
  const size_t entry = twice.rfind("a/2");
  twice[entry + 2] = '1';
  expect_refusal(ExitCode::kBadData, "a/1: error: zip archive: expected one record of that name",
                 [&] { StoredZip("x.pth", twice); });
  std::string apart = file;
  apart[apart.rfind("a/3")] = 'b';
  expect_refusal(ExitCode::kBadData, "b/3: error: zip archive: expected all records in one folder",
                 [&] { StoredZip("x.pth", apart); });
  // 64 entries of one local record with 100 KB.
  const std::string large(100'000, '\1');
  file = format_stored_zip({{"a/1", large}});
  const size_t directory = file.rfind("PK\1\2");
  const size_t end = file.rfind("PK\5\6");
  std::string record = file.substr(directory, end - directory), tail = file.substr(end);
  file.resize(directory);
  for (char i = 0; i < 64; ++i) {
    record.back() = static_cast<char>('0' + i);
    file += record;
  }
  tail[8] = tail[10] = 64;
  expect_refusal(ExitCode::kBadData, "expected records that do not overlap",
                 [&] { StoredZip("x.pth", file + tail); });
}

}  // namespace
}  // namespace model
