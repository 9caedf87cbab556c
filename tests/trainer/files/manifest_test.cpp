// Manifests that are whole, and say what cannot be.
#include <gtest/gtest.h>

#include "tests/support/refusal.h"
#include "trainer/files/manifest.h"

namespace {

using namespace trainer;
using namespace test_support;

// As the file gives it back that holds a tensor of this shape, with a hash that fits.
std::vector<int64_t> shape_read(const std::vector<int64_t>& shape) {
  Manifest manifest;
  manifest.files["a.h5"] = {.bytes = 1, .hash = "0"};
  manifest.tensors["norm.w"] = {.file = "a.h5", .dtype = "float32", .shape = shape, .hash = "0"};
  return parse_manifest("MANIFEST.json", format_manifest(manifest)).tensors.at("norm.w").shape;
}

TEST(Manifest, H506ShapesAreThoseOfTensors) {
  constexpr int64_t kBig = int64_t{1} << 30;
  using Shapes = std::vector<std::vector<int64_t>>;
  for (const auto& shape : Shapes{{}, {0}, {2, 3, 4, 5}, {kBig, kBig / 2}, {0, kBig, kBig, kBig}})
    EXPECT_EQ(shape_read(shape), shape);
  EXPECT_FAILS(kBadData,
               "MANIFEST.json:norm.w: error: shape: expected at most 4 extents, got [1,1,1,1,48]",
               shape_read({1, 1, 1, 1, 48}));
  for (const auto& shape : Shapes{{kBig, kBig}, {kBig, kBig, kBig, kBig}, {kBig, kBig, kBig, 0}})
    EXPECT_FAILS(kBadData, "MANIFEST.json:norm.w: error: shape: expected a product below 2^60",
                 shape_read(shape));
}

}  // namespace
