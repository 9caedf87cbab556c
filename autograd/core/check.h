// Checks on the caller of an op: always on, once per op at its boundary, one line each.
#pragma once

#include <string>

#include "autograd/core/shape.h"

namespace ag {

[[noreturn]] inline void fail_check(const char* op, const std::string& expected,
                                    const std::string& found) {
  core::fail(core::ExitCode::kInternal, {.field = op, .expected = expected, .found = found});
}

}  // namespace ag

#define CHECK_ARGUMENT(op, condition, expected, found)       \
  do {                                                       \
    if (!(condition)) ::ag::fail_check(op, expected, found); \
  } while (false)

// CHECK_SHAPE("rms_norm", w, (Shape{D}))
#define CHECK_SHAPE(op, tensor, wanted)                                 \
  do {                                                                  \
    const ::ag::Shape wanted_shape = wanted;                            \
    if (!((tensor).shape() == wanted_shape))                            \
      ::ag::fail_check(op, #tensor " " + ::ag::to_string(wanted_shape), \
                       ::ag::to_string((tensor).shape()));              \
  } while (false)

#define CHECK_DTYPE(op, tensor, wanted)                                         \
  do {                                                                          \
    if ((tensor).dtype() != (wanted))                                           \
      ::ag::fail_check(op, #tensor " of " + std::string(::ag::name_of(wanted)), \
                       std::string(::ag::name_of((tensor).dtype())));           \
  } while (false)
