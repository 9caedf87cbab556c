// The bytes of a GGUF file one after the other; whoever reads past the end is told what was
// missing.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "model/gguf.h"

namespace model {

// "an array of INT32"
std::string describe(const GgufValue& value);

class GgufReader {
 public:
  GgufReader(std::string path, std::span<const std::byte> file)
      : path_(std::move(path)), file_(file) {}

  std::string_view bytes(uint64_t count, const char* what);
  template <class T>
  T number(const char* what) {
    return read_number<T>(reinterpret_cast<const std::byte*>(bytes(sizeof(T), what).data()));
  }
  std::string_view string(const char* what, uint64_t most);
  // Type and value of an entry; walks over the elements of an array without keeping them.
  GgufValue value();

  const std::string& path() const { return path_; }
  std::span<const std::byte> file() const { return file_; }
  size_t size() const { return file_.size(); }
  size_t position() const { return position_; }
  uint64_t remaining() const { return file_.size() - position_; }

  // The key or tensor that is being read; errors name it in place of the byte.
  void set_place(std::string place) { place_ = std::move(place); }
  [[noreturn]] void fail(size_t byte, const std::string& field, const std::string& expected,
                         const std::string& found, const std::string& hint = "") const;
  [[noreturn]] void fail_at(const std::string& place, const std::string& field,
                            const std::string& expected, const std::string& found,
                            const std::string& hint = "") const;
  // In quotes, cut at 64 bytes.
  static std::string quoted(std::string_view text);

 private:
  GgufType type();
  void skip(GgufType type, uint64_t count);

  std::string path_, place_;
  std::span<const std::byte> file_;
  size_t position_ = 0;
};

}  // namespace model
