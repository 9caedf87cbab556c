// Files of torch.save: tests/data_files/torch-tensors/, written by PyTorch, and those written here.
#include "model/torch_tensor.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/file.h"
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

}  // namespace
}  // namespace model
