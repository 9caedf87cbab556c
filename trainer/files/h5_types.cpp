#include "core/error.h"
#include "trainer/files/h5.h"

namespace trainer {

uint64_t size_of(H5Type type) {
  switch (type) {
    case H5Type::f32:
    case H5Type::i32:
      return 4;
    case H5Type::bf16:
      return 2;
    case H5Type::f64:
      return 8;
    case H5Type::u8:
      return 1;
  }
  return 0;
}

std::string_view name_of(H5Type type) {
  switch (type) {
    case H5Type::f32:
      return "float32";
    case H5Type::bf16:
      return "bfloat16";
    case H5Type::f64:
      return "float64";
    case H5Type::i32:
      return "int32";
    case H5Type::u8:
      return "uint8";
  }
  return "?";
}

H5Type h5_type_of(ag::DType dtype) {
  switch (dtype) {
    case ag::DType::f32:
      return H5Type::f32;
    case ag::DType::bf16:
      return H5Type::bf16;
    case ag::DType::f64:
      return H5Type::f64;
    case ag::DType::i32:
      return H5Type::i32;
  }
  core::fail(core::ExitCode::kInternal,
             {.field = "dtype", .found = "one that HDF5 files do not hold"});
}

H5Source h5_source(const std::string& name, const ag::Tensor& tensor) {
  return {name, tensor.shape(), h5_type_of(tensor.dtype()), tensor.view().data};
}

ag::Shape make_shape(const std::vector<int64_t>& e) {
  switch (e.size()) {
    case 0:
      return {};
    case 1:
      return {e[0]};
    case 2:
      return {e[0], e[1]};
    case 3:
      return {e[0], e[1], e[2]};
    case 4:
      return {e[0], e[1], e[2], e[3]};
    default:
      core::fail(core::ExitCode::kInternal,
                 {.field = "rank", .expected = "at most 4", .found = "more"});
  }
}

}  // namespace trainer
