#include "model/stored_zip.h"

#include <fmt/format.h>
#include <zlib.h>

#include <cstdint>

#include "core/error.h"

namespace model {
namespace {

constexpr size_t kMaxMembers = 64;
constexpr uint32_t kLocalMagic = 0x04034b50, kCentralMagic = 0x02014b50, kEndMagic = 0x06054b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kMaxComment = 65'535;

uint32_t little_endian(std::string_view bytes, size_t at, size_t width) {
  uint32_t value = 0;
  for (size_t i = 0; i < width; ++i)
    value |= uint32_t{static_cast<uint8_t>(bytes[at + i])} << (8 * i);
  return value;
}

uint32_t check_sum(std::string_view bytes) {
  return static_cast<uint32_t>(
      ::crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()));
}

void append(std::string& out, uint32_t value, int width) {
  for (int i = 0; i < width; ++i) out += static_cast<char>((value >> (8 * i)) & 0xff);
}

// What the header of a record and its entry in the directory have in common. The date is
// 1980-01-01: equal contents are equal bytes.
std::string record_fields(const std::string& name, std::string_view bytes) {
  std::string out;
  append(out, 20, 2);  // version needed
  append(out, 0, 4);   // flags, no compression
  append(out, 0, 2);   // time
  append(out, 0x21, 2);
  append(out, check_sum(bytes), 4);
  append(out, static_cast<uint32_t>(bytes.size()), 4);
  append(out, static_cast<uint32_t>(bytes.size()), 4);
  append(out, static_cast<uint32_t>(name.size()), 2);
  append(out, 0, 2);  // extra field
  return out;
}

}  // namespace

void StoredZip::refuse(const std::string& place, const std::string& expected,
                       const std::string& found) const {
  core::fail(core::ExitCode::kBadData, {.path = path_,
                                        .place = place,
                                        .field = "zip archive",
                                        .expected = expected,
                                        .found = found});
}

StoredZip::StoredZip(const std::string& path, std::string_view file) : path_(path), file_(file) {
  const size_t end = find_end();
  const uint32_t count = little_endian(file_, end + 10, 2);
  size_t at = little_endian(file_, end + 16, 4);
  if (count > kMaxMembers) refuse("", "at most 64 records", std::to_string(count));
  for (uint32_t i = 0; i < count; ++i) at = add_record(at);
}

std::string_view StoredZip::at(const std::string& name) const {
  for (const ZipRecord& record : records_) {
    const size_t slash = record.name.find('/');
    if (slash != std::string::npos && record.name.substr(slash + 1) == name) return record.bytes;
  }
  refuse(name, "a record", "nothing");
}

size_t StoredZip::find_end() const {
  for (size_t back = kEndBytes; back <= file_.size() && back <= kEndBytes + kMaxComment; ++back)
    if (little_endian(file_, file_.size() - back, 4) == kEndMagic) return file_.size() - back;
  refuse("", "a zip archive of torch.save", "another file");
}

std::string_view StoredZip::part(size_t at, size_t size) const {
  if (at > file_.size() || size > file_.size() - at)
    refuse(fmt::format("byte {}", at), fmt::format("{} bytes", size), "the end of the file");
  return file_.substr(at, size);
}

size_t StoredZip::add_record(size_t at) {
  const std::string_view entry = part(at, kCentralBytes);
  const size_t name_size = little_endian(entry, 28, 2);
  const std::string name(part(at + kCentralBytes, name_size));
  const size_t size = little_endian(entry, 24, 4), local = little_endian(entry, 42, 4);
  if (little_endian(entry, 0, 4) != kCentralMagic || little_endian(entry, 10, 2) != 0 ||
      little_endian(entry, 20, 4) != size)
    refuse(fmt::format("byte {}", at), "a record without compression", "another one");
  const std::string_view header = part(local, kLocalBytes);
  if (little_endian(header, 0, 4) != kLocalMagic)
    refuse(fmt::format("byte {}", local), "the header of a record", "something else");
  const size_t begin =
      local + kLocalBytes + little_endian(header, 26, 2) + little_endian(header, 28, 2);
  const std::string_view bytes = part(begin, size);
  // Why: records that overlap would let a small file be summed up and read many times.
  if (size > file_.size() - recorded_) refuse(name, "records that do not overlap", "others");
  recorded_ += size;
  if (check_sum(bytes) != little_endian(entry, 16, 4))
    refuse(name, "contents of the recorded check sum", "others");
  const size_t folder = name.find('/');
  if (!records_.empty() && name.substr(0, folder) != records_[0].name.substr(0, folder))
    refuse(name, "all records in one folder", "a second one");
  for (const ZipRecord& record : records_)
    if (record.name == name) refuse(name, "one record of that name", "two");
  records_.push_back({name, bytes});
  return at + kCentralBytes + name_size + little_endian(entry, 30, 2) + little_endian(entry, 32, 2);
}

std::string format_stored_zip(const std::vector<ZipRecord>& records) {
  std::string out, directory;
  for (const ZipRecord& record : records) {
    const std::string fields = record_fields(record.name, record.bytes);
    append(directory, kCentralMagic, 4);
    append(directory, 20, 2);  // version made by
    directory += fields;
    append(directory, 0, 4);  // comment, disk
    append(directory, 0, 2);  // attributes
    append(directory, 0, 4);
    append(directory, static_cast<uint32_t>(out.size()), 4);
    directory += record.name;
    append(out, kLocalMagic, 4);
    out += fields;
    out += record.name;
    out += record.bytes;
  }
  const auto begin = static_cast<uint32_t>(out.size());
  out += directory;
  append(out, kEndMagic, 4);
  append(out, 0, 4);  // disks
  append(out, static_cast<uint32_t>(records.size()), 2);
  append(out, static_cast<uint32_t>(records.size()), 2);
  append(out, static_cast<uint32_t>(directory.size()), 4);
  append(out, begin, 4);
  append(out, 0, 2);  // comment
  return out;
}

}  // namespace model
