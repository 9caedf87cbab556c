// bfloat16 against float32 on the trained model that ships with the project and on real English
// (the project's own documents), at every instruction set that this machine has.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "autograd/kernels/kernels.h"
#include "core/file.h"
#include "data/tokenizer.h"
#include "model/hf_import.h"
#include "model/llama.h"
#include "trainer/models/agreement.h"

namespace trainer {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kWindow = 256, kWindows = 6;

std::vector<int32_t> english_ids() {
  const fs::path root = MHA2MLA_SOURCE_DIR;
  const data::Tokenizer tokenizer = data::Tokenizer::load(root / "examples/tiny-llama");
  std::vector<int32_t> ids;
  for (const char* page : {"docs/architecture.md", "docs/adding_an_op.md", "docs/conversion.md"}) {
    for (const uint32_t id : tokenizer.encode(core::read_text(root / page), false))
      ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

TEST(Bfloat16, StaysCloseToFloat32OnTheTrainedModel) {
  const model::Model source =
      model::import_hf(fs::path(MHA2MLA_SOURCE_DIR) / "examples/tiny-llama");
  model::Llama wide(source, {}), narrow(source, {.compute = ag::DType::bf16});
  const std::vector<int32_t> ids = english_ids();
  ASSERT_GE(static_cast<int64_t>(ids.size()), kWindow * kWindows);
  Agreement agreement;
  for (int64_t w = 0; w < kWindows; ++w) {
    const std::vector<int32_t> window(ids.begin() + w * kWindow, ids.begin() + (w + 1) * kWindow);
    const ag::Tensor x = ag::Tensor::from_host<int32_t>({kWindow}, window);
    agreement.add(wide.logits(x, 1).to_host<float>(), narrow.logits(x, 1).to_host<float>(), window,
                  kWindow);
  }
  EXPECT_GT(agreement.kl(), 0) << "both ran in float32";
  EXPECT_LT(agreement.kl(), 1e-3);
  EXPECT_NEAR(agreement.nll_b(), agreement.nll_a(), 0.005);
  EXPECT_LT(agreement.nll_a(), 7) << "the model does not know this language";
}

// The level is chosen once per process, so the lower ones run in processes of their own.
TEST(Bfloat16, StaysCloseAtEveryLowerInstructionSet) {
  if (std::getenv("MHA2MLA_ISA") != nullptr) return;
  const std::string self = fs::read_symlink("/proc/self/exe");
  for (int level = 0; level < static_cast<int>(ag::active_isa()); ++level) {
    const std::string name(ag::name_of(static_cast<ag::Isa>(level)));
    const std::string command = fmt::format(
        "MHA2MLA_ISA={} '{}' --gtest_filter=Bfloat16.StaysCloseToFloat32OnTheTrainedModel > "
        "/dev/null",
        name, self);
    EXPECT_EQ(std::system(command.c_str()), 0) << name;
  }
}

}  // namespace
}  // namespace trainer
