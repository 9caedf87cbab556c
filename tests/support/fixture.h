// Golden models under tests/data_files: Hugging Face folders with what other programs compute for
// them (golden.safetensors, mla_golden.safetensors).
#pragma once

#include <filesystem>
#include <string>

#include "model/safetensors.h"

namespace test_support {

// tests/data_files/NAME
inline std::filesystem::path fixture_path(const std::string& name) {
  return std::filesystem::path(MHA2MLA_TEST_DATA) / name;
}

// One golden tensor, e.g. golden("qwen2", "logits_f64"). F32 and F64 keep their type, ids are i32.
inline ag::Tensor golden(const std::string& fixture, const std::string& tensor,
                         const std::string& file = "golden.safetensors") {
  return model::SafetensorsFile(fixture_path(fixture) / file).load(tensor);
}

}  // namespace test_support
