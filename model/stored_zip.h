// Zip archives without compression: what torch.save writes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace model {

struct ZipRecord {
  std::string name;
  std::string_view bytes;
};

class StoredZip {
 public:
  // Throws kBadData naming `path` and byte for a compressed or damaged archive, for one of more
  // than 64 records, of more bytes in records than in the file, or of two records with one name.
  // Keeps views of `file`.
  StoredZip(const std::string& path, std::string_view file);

  // The record FOLDER/NAME, whatever the folder is called. Throws kBadData when there is none.
  std::string_view at(const std::string& name) const;

 private:
  size_t find_end() const;
  std::string_view part(size_t at, size_t size) const;
  size_t add_record(size_t at);
  [[noreturn]] void refuse(const std::string& place, const std::string& expected,
                           const std::string& found) const;

  std::string path_;
  std::string_view file_;
  std::vector<ZipRecord> records_;
  size_t recorded_ = 0;  // bytes of all records
};

// The bytes of the archive: equal records are equal bytes. Requires: less than 4 GiB.
std::string format_stored_zip(const std::vector<ZipRecord>& records);

}  // namespace model
