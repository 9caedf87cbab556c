// tools/hf/modeling_mha2mla.py, which every export takes along: in the program itself, so that it
// is there wherever the program is installed.
#pragma once

#include <string_view>

namespace model {

extern const std::string_view kModelingText;

}  // namespace model
