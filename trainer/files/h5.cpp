#include "trainer/files/h5.h"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

#include "core/checked.h"
#include "core/error.h"
#include "trainer/files/h5_driver.h"
#include "trainer/files/h5_links.h"

namespace trainer {
namespace {

using core::ExitCode;
namespace fs = std::filesystem;

// Owns an HDF5 identifier. `close()` reports failure, the destructor cannot.
class Handle {
 public:
  using Closer = herr_t (*)(hid_t);
  Handle(hid_t id, Closer closer) : id_(id), closer_(closer) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (id_ >= 0) closer_(id_);
  }
  bool valid() const { return id_ >= 0; }
  hid_t get() const { return id_; }
  bool close() { return closer_(std::exchange(id_, -1)) >= 0; }

 private:
  hid_t id_;
  Closer closer_;
};

// The innermost entry of HDF5's error stack, and the errno that it quotes.
struct Cause {
  std::string text;
  int error_number = 0;
};

herr_t collect_cause(unsigned, const H5E_error2_t* entry, void* out) {
  Cause& cause = *static_cast<Cause*>(out);
  const std::string text = entry->desc == nullptr ? "" : entry->desc;
  if (cause.text.empty()) cause.text = text;
  const size_t at = text.find("errno = ");
  if (at != std::string::npos && cause.error_number == 0)
    cause.error_number = std::atoi(text.c_str() + at + 8);
  // HDF5 itself had no memory.
  if (entry->maj_num == H5E_RESOURCE && entry->min_num == H5E_NOSPACE && cause.error_number == 0)
    cause.error_number = ENOMEM;
  return 0;
}

// Of the disk, of memory, of open files. Not the contents' fault: they may be whole when they are
// read again.
bool is_of_the_machine(int error_number) {
  constexpr std::array kThose = {EIO,       ESTALE, ENXIO,  ENODEV, ETIMEDOUT,
                                 EREMOTEIO, ENOMEM, EMFILE, ENFILE};
  return std::find(kThose.begin(), kThose.end(), error_number) != kThose.end();
}

[[noreturn]] void fail_h5(ExitCode code, const fs::path& path, const std::string& place,
                          const std::string& operation) {
  Cause cause;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect_cause, &cause);
  H5Eclear2(H5E_DEFAULT);
  std::string hint;
  if (cause.error_number != 0) {
    cause.text = std::strerror(cause.error_number);
    if (is_of_the_machine(cause.error_number)) code = ExitCode::kIo;
    if (cause.error_number == ENOSPC || cause.error_number == EDQUOT || cause.error_number == EFBIG)
      hint = "free disk space and run the same command again";
  }
  std::replace(cause.text.begin(), cause.text.end(), '\n', ' ');
  core::fail(code, {.path = path,
                    .place = place,
                    .field = "HDF5 " + operation,
                    .found = cause.text.empty() ? "failed" : cause.text,
                    .hint = hint});
}

void silence() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }  // per thread

hid_t stored_type(H5Type type) {
  switch (type) {
    case H5Type::f32:
      return H5T_IEEE_F32LE;
    case H5Type::bf16:
      return H5T_STD_U16LE;
    case H5Type::f64:
      return H5T_IEEE_F64LE;
    case H5Type::i32:
      return H5T_STD_I32LE;
    case H5Type::u8:
      return H5T_STD_U8LE;
  }
  return -1;
}

constexpr char kDtypeAttribute[] = "dtype";
constexpr char kBfloat16[] = "bfloat16";
constexpr size_t kBfloat16Size = sizeof kBfloat16 - 1;

bool write_bfloat16_mark(hid_t dataset) {
  Handle text(H5Tcopy(H5T_C_S1), H5Tclose);
  if (!text.valid() || H5Tset_size(text.get(), kBfloat16Size) < 0 ||
      H5Tset_strpad(text.get(), H5T_STR_NULLPAD) < 0)
    return false;
  Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  if (!space.valid()) return false;
  Handle attribute(
      H5Acreate2(dataset, kDtypeAttribute, text.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
      H5Aclose);
  return attribute.valid() && H5Awrite(attribute.get(), text.get(), kBfloat16) >= 0 &&
         attribute.close();
}

bool has_bfloat16_mark(hid_t dataset) {
  if (H5Aexists(dataset, kDtypeAttribute) <= 0) return false;
  Handle attribute(H5Aopen(dataset, kDtypeAttribute, H5P_DEFAULT), H5Aclose);
  if (!attribute.valid()) return false;
  Handle type(H5Aget_type(attribute.get()), H5Tclose);
  Handle space(H5Aget_space(attribute.get()), H5Sclose);
  if (!type.valid() || !space.valid() || H5Tget_class(type.get()) != H5T_STRING ||
      H5Tis_variable_str(type.get()) != 0 || H5Tget_size(type.get()) != kBfloat16Size ||
      H5Sget_simple_extent_npoints(space.get()) != 1)
    return false;
  std::array<char, kBfloat16Size> text{};
  return H5Aread(attribute.get(), type.get(), text.data()) >= 0 &&
         std::memcmp(text.data(), kBfloat16, kBfloat16Size) == 0;
}

hid_t access_list() {
  const hid_t list = H5Pcreate(H5P_FILE_ACCESS);
  // V110 at both ends: a file whose writer died before closing it does not open.
  if (list >= 0 &&
      (!use_h5_driver(list) || H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
       H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) < 0)) {
    H5Pclose(list);
    return -1;
  }
  return list;
}

// A creation list of the given class that records no times.
hid_t timeless_list(hid_t list_class) {
  const hid_t list = H5Pcreate(list_class);
  if (list >= 0 && H5Pset_obj_track_times(list, false) < 0) {
    H5Pclose(list);
    return -1;
  }
  return list;
}

}  // namespace

void h5_initialize() {
  static std::once_flag once;
  std::call_once(once, [] {
    H5dont_atexit();
    H5open();
    H5PLset_loading_state(0);
  });
  silence();
}

std::string h5_library() {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

H5Writer::H5Writer(fs::path path) : path_(std::move(path)) {
  h5_initialize();
  Handle creation(timeless_list(H5P_FILE_CREATE), H5Pclose);
  Handle access(access_list(), H5Pclose);
  if (!creation.valid() || !access.valid()) fail_h5(ExitCode::kIo, path_, "", "property lists");
  file_ = H5Fcreate(path_.c_str(), H5F_ACC_EXCL, creation.get(), access.get());
  if (file_ < 0) fail_h5(ExitCode::kIo, path_, "", "create");
}

H5Writer::~H5Writer() {
  if (file_ >= 0) H5Fclose(file_);
}

void H5Writer::close() {
  if (H5Fclose(std::exchange(file_, -1)) < 0) fail_h5(ExitCode::kIo, path_, "", "close");
}

// Groups are made one by one: HDF5's "create intermediate groups" would stamp them with the time.
void H5Writer::create_groups(const std::string& name) {
  for (size_t end = name.find('/'); end != std::string::npos; end = name.find('/', end + 1)) {
    const std::string group = name.substr(0, end);
    if (!groups_.insert(group).second) continue;
    Handle creation(timeless_list(H5P_GROUP_CREATE), H5Pclose);
    if (!creation.valid()) fail_h5(ExitCode::kIo, path_, group, "property lists");
    Handle made(H5Gcreate2(file_, group.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT),
                H5Gclose);
    if (!made.valid() || !made.close()) fail_h5(ExitCode::kIo, path_, group, "create group");
  }
}

void H5Writer::write(const H5Source& source) {
  const auto check = [&](bool good, const char* operation) {
    if (!good) fail_h5(ExitCode::kIo, path_, source.name, operation);
  };
  create_groups(source.name);
  std::array<hsize_t, ag::Shape::kMaxRank> extents{};
  for (int i = 0; i < source.shape.rank(); ++i)
    extents[static_cast<size_t>(i)] = static_cast<hsize_t>(source.shape[i]);
  Handle space(source.shape.rank() == 0
                   ? H5Screate(H5S_SCALAR)
                   : H5Screate_simple(source.shape.rank(), extents.data(), nullptr),
               H5Sclose);
  Handle creation(timeless_list(H5P_DATASET_CREATE), H5Pclose);
  check(space.valid() && creation.valid() && H5Pset_layout(creation.get(), H5D_CONTIGUOUS) >= 0 &&
            H5Pset_fill_time(creation.get(), H5D_FILL_TIME_NEVER) >= 0,
        "property lists");
  const hid_t type = stored_type(source.type);
  Handle dataset(H5Dcreate2(file_, source.name.c_str(), type, space.get(), H5P_DEFAULT,
                            creation.get(), H5P_DEFAULT),
                 H5Dclose);
  check(dataset.valid(), "create dataset");
  if (source.type == H5Type::bf16) check(write_bfloat16_mark(dataset.get()), "write attribute");
  if (source.bytes() > 0)
    check(H5Dwrite(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, source.data) >= 0, "write");
  check(H5Dget_storage_size(dataset.get()) == source.bytes(), "storage size");
  check(dataset.close(), "close dataset");
}

H5Reader::H5Reader(fs::path path) : path_(std::move(path)) {
  h5_initialize();
  Handle access(access_list(), H5Pclose);
  if (!access.valid()) fail_h5(ExitCode::kIo, path_, "", "property lists");
  file_ = H5Fopen(path_.c_str(), H5F_ACC_RDONLY, access.get());
  if (file_ < 0) fail_h5(ExitCode::kBadData, path_, "", "open");
  try {
    list();
  } catch (...) {
    H5Fclose(file_);
    throw;
  }
}

H5Reader::~H5Reader() {
  if (file_ >= 0) H5Fclose(file_);
}

void H5Reader::list() {
  std::error_code error;
  const uint64_t file_bytes = fs::file_size(path_, error);
  if (error) core::fail_errno("stat", path_, error.value());
  const std::optional<std::vector<H5Link>> links = list_h5_links(file_, path_);
  if (!links) fail_h5(ExitCode::kBadData, path_, "", "list");
  std::optional<uint64_t> bytes = 0;
  for (const H5Link& link : *links) {
    if (!link.is_hard)
      core::fail(ExitCode::kBadData, {.path = path_,
                                      .place = link.name,
                                      .field = "link",
                                      .expected = "a dataset or group",
                                      .found = "a soft, external or user-defined link"});
    Handle object(H5Oopen(file_, link.name.c_str(), H5P_DEFAULT), H5Oclose);
    if (!object.valid()) fail_h5(ExitCode::kBadData, path_, link.name, "open object");
    if (H5Iget_type(object.get()) == H5I_GROUP) continue;
    datasets_.push_back(describe(link.name, file_bytes));
    // A dataset of many names is listed, and read, once for each.
    bytes = core::checked_add(*bytes, datasets_.back().bytes());
    if (!bytes || *bytes > file_bytes)
      core::fail(ExitCode::kBadData,
                 {.path = path_,
                  .place = link.name,
                  .field = "size",
                  .expected = "datasets of no more bytes than the file, all together",
                  .found = "more"});
  }
  std::sort(datasets_.begin(), datasets_.end(),
            [](const H5Dataset& a, const H5Dataset& b) { return a.name < b.name; });
}

H5Dataset H5Reader::describe(const std::string& name, uint64_t file_bytes) const {
  const auto require = [&](bool good, const char* field, const char* expected) {
    if (!good)
      core::fail(ExitCode::kBadData, {.path = path_,
                                      .place = name,
                                      .field = field,
                                      .expected = expected,
                                      .found = "something else"});
  };
  // At once: the next call would forget why.
  const auto require_open = [&](const Handle& handle, const char* operation) {
    if (!handle.valid()) fail_h5(ExitCode::kBadData, path_, name, operation);
  };
  Handle dataset(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
  require_open(dataset, "open dataset");
  Handle creation(H5Dget_create_plist(dataset.get()), H5Pclose);
  require_open(creation, "read dataset header");
  Handle space(H5Dget_space(dataset.get()), H5Sclose);
  require_open(space, "read dataset header");
  Handle type(H5Dget_type(dataset.get()), H5Tclose);
  require_open(type, "read dataset header");
  require(H5Pget_layout(creation.get()) == H5D_CONTIGUOUS &&
              H5Pget_external_count(creation.get()) == 0 && H5Pget_nfilters(creation.get()) == 0,
          "layout", "contiguous, without filters, inside the file");

  H5Dataset result{.name = name, .shape = {}, .type = H5Type::f32};
  bool known = false;
  for (const H5Type t : {H5Type::f32, H5Type::bf16, H5Type::f64, H5Type::i32, H5Type::u8}) {
    if (H5Tequal(type.get(), stored_type(t)) <= 0) continue;
    result.type = t;
    known = t != H5Type::bf16 || has_bfloat16_mark(dataset.get());
  }
  require(known, "type", "float32, float64, int32, uint8 or marked bfloat16, little endian");

  const int rank = H5Sget_simple_extent_ndims(space.get());
  require(rank >= 0 && rank <= ag::Shape::kMaxRank, "rank", "0 to 4");
  std::array<hsize_t, ag::Shape::kMaxRank> extents{};
  if (H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr) < 0)
    fail_h5(ExitCode::kBadData, path_, name, "read extents");
  std::vector<int64_t> shape;
  std::optional<uint64_t> bytes = size_of(result.type);
  for (int i = 0; i < rank; ++i) {
    const hsize_t extent = extents[static_cast<size_t>(i)];
    bytes = bytes ? core::checked_mul(*bytes, extent) : bytes;
    shape.push_back(static_cast<int64_t>(extent));
  }
  require(bytes && *bytes <= file_bytes && H5Dget_storage_size(dataset.get()) == *bytes, "size",
          "the bytes of its shape, all inside the file");
  result.shape = make_shape(shape);
  return result;
}

const H5Dataset& H5Reader::find(const std::string& name) const {
  const auto found = std::lower_bound(
      datasets_.begin(), datasets_.end(), name,
      [](const H5Dataset& dataset, const std::string& n) { return dataset.name < n; });
  if (found != datasets_.end() && found->name == name) return *found;
  core::fail(ExitCode::kBadData,
             {.path = path_, .place = name, .field = "dataset", .found = "missing"});
}

void H5Reader::read(const H5Dataset& dataset, void* out) const {
  if (dataset.bytes() == 0) return;
  Handle handle(H5Dopen2(file_, dataset.name.c_str(), H5P_DEFAULT), H5Dclose);
  if (!handle.valid() ||
      H5Dread(handle.get(), stored_type(dataset.type), H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
    fail_h5(ExitCode::kBadData, path_, dataset.name, "read");
}

ag::Tensor H5Reader::read_tensor(const std::string& name, const ag::Shape* shape) const {
  const H5Dataset& dataset = find(name);
  if (shape != nullptr && !(dataset.shape == *shape))
    core::fail(ExitCode::kBadData, {.path = path_,
                                    .place = name,
                                    .field = "shape",
                                    .expected = to_string(*shape),
                                    .found = to_string(dataset.shape)});
  for (const ag::DType dtype : {ag::DType::f32, ag::DType::bf16, ag::DType::f64, ag::DType::i32}) {
    if (h5_type_of(dtype) != dataset.type) continue;
    ag::Tensor tensor = ag::Tensor::empty(dataset.shape, dtype);
    read(dataset, tensor.view().data);
    return tensor;
  }
  core::fail(ExitCode::kBadData, {.path = path_,
                                  .place = name,
                                  .field = "type",
                                  .expected = "a tensor's",
                                  .found = std::string(name_of(dataset.type))});
}

}  // namespace trainer
