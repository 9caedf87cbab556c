#include "data/byte_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/io.h"

namespace data {
namespace {

namespace fs = std::filesystem;
using core::ExitCode;

constexpr size_t kInputBuffer = size_t{1} << 16;

[[noreturn]] void damaged(const char* format, const std::string& found) {
  throw BadStream{format, "a complete stream", found, "fetch or compress the file again"};
}

// The file on disk. Notices at its end that it was written to in the meantime.
class InputFile : public StoredBytes {
 public:
  // O_NONBLOCK: opening a FIFO must lead to the refusal below, not wait for a writer.
  explicit InputFile(const fs::path& path)
      : path_(path), fd_(core::io::open(path, O_RDONLY | O_NONBLOCK)) {
    if (fd_ < 0) core::fail_errno("open", path, errno);
    try {
      opened_ = status();
      if (!S_ISREG(opened_.st_mode))
        core::fail(ExitCode::kMissingInput, {.path = path,
                                             .field = "file",
                                             .expected = "a regular file",
                                             .found = "something else"});
    } catch (...) {
      core::io::close(fd_);
      throw;
    }
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile() override { core::io::close(fd_); }

  size_t read(char* out, size_t capacity) override {
    ssize_t n;
    do {
      n = core::io::read(fd_, out, capacity);
    } while (n < 0 && errno == EINTR);
    if (n < 0) core::fail_errno("read", path_, errno);
    if (n == 0 && capacity > 0) check_unchanged();
    done_ += static_cast<uint64_t>(n);
    return static_cast<size_t>(n);
  }

  uint64_t size() const override { return static_cast<uint64_t>(opened_.st_size); }
  uint64_t done() const override { return done_; }

 private:
  struct stat status() const {
    struct stat info {};
    if (core::io::stat(fd_, &info) != 0) core::fail_errno("stat", path_, errno);
    return info;
  }

  void check_unchanged() const {
    const struct stat now = status();
    if (now.st_size == opened_.st_size && now.st_mtim.tv_sec == opened_.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == opened_.st_mtim.tv_nsec)
      return;
    core::fail(ExitCode::kBadData, {.path = path_,
                                    .field = "file",
                                    .expected = "the same content throughout",
                                    .found = "a file that was written to while it was read"});
  }

  fs::path path_;
  int fd_;
  struct stat opened_ {};
  uint64_t done_ = 0;
};

class PlainSource : public ByteSource {
 public:
  PlainSource(const fs::path& path, std::unique_ptr<StoredBytes> stored)
      : stored_(std::move(stored)) {
    head_.resize(kLongestMagic);
    size_t have = 0;
    for (size_t n = 1; n > 0 && have < head_.size(); have += n)
      n = stored_->read(head_.data() + have, head_.size() - have);
    head_.resize(have);
    struct Magic {
      std::string_view bytes, name;
    };
    // A zip needs its whole magic: "PK" alone may begin a text.
    for (const Magic& magic : {Magic{"\x1f\x8b", "gzip (1f 8b); name it .gz"},
                               Magic{"\x28\xb5\x2f\xfd", "zstd (28 b5 2f fd); name it .zst"},
                               Magic{"PK\x03\x04", "zip (50 4b 03 04); unpack it"},
                               Magic{"PAR1\x15", "parquet (PAR1); export it to .jsonl first"}})
      if (head_.starts_with(magic.bytes))
        core::fail(ExitCode::kBadData, {.path = path,
                                        .field = "content",
                                        .expected = "text",
                                        .found = fmt::format("what looks like {}", magic.name)});
  }

  size_t read(char* out, size_t capacity) override {
    if (head_.empty()) return stored_->read(out, capacity);
    const size_t n = head_.copy(out, capacity);
    head_.erase(0, n);
    return n;
  }
  uint64_t input_size() const override { return stored_->size(); }
  uint64_t input_read() const override { return stored_->done() - head_.size(); }

 private:
  static constexpr size_t kLongestMagic = 5;
  std::unique_ptr<StoredBytes> stored_;
  std::string head_;  // read to be looked at, not yet handed on
};

// One or more gzip members, one after the other.
class GzipSource : public ByteSource {
 public:
  GzipSource(const fs::path& path, std::unique_ptr<StoredBytes> stored)
      : stored_(std::move(stored)), input_(kInputBuffer) {
    constexpr int kGzipOnly = 16;
    if (inflateInit2(&stream_, MAX_WBITS + kGzipOnly) != Z_OK)
      core::fail(ExitCode::kOutOfMemory, {.path = path, .field = "gzip", .found = "no memory"});
  }
  ~GzipSource() override { inflateEnd(&stream_); }

  size_t read(char* out, size_t capacity) override {
    constexpr size_t kMost = size_t{1} << 30;  // zlib counts in 32 bits
    const auto size = static_cast<uInt>(std::min(capacity, kMost));
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = size;
    while (stream_.avail_out > 0) {
      if (stream_.avail_in == 0) refill();
      if (!inside_member_) {
        if (stream_.avail_in == 0) break;
        inflateReset(&stream_);
        inside_member_ = true;
      }
      const int result = inflate(&stream_, Z_NO_FLUSH);
      if (result == Z_STREAM_END)
        inside_member_ = false;
      else if (result == Z_BUF_ERROR && at_end_)
        damaged("gzip", "the file ends inside the stream");
      else if (result != Z_OK && result != Z_BUF_ERROR)
        damaged("gzip", stream_.msg != nullptr ? stream_.msg : "damaged data");
    }
    return size - stream_.avail_out;
  }
  uint64_t input_size() const override { return stored_->size(); }
  uint64_t input_read() const override { return stored_->done(); }

 private:
  void refill() {
    if (at_end_) return;
    const size_t n = stored_->read(input_.data(), input_.size());
    at_end_ = n == 0;
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
    stream_.avail_in = static_cast<uInt>(n);
  }

  std::unique_ptr<StoredBytes> stored_;
  std::vector<char> input_;
  z_stream stream_{};
  bool inside_member_ = true, at_end_ = false;  // an empty file is a truncated one
};

// One or more zstd frames. zstd itself refuses windows above 128 MiB.
class ZstdSource : public ByteSource {
 public:
  ZstdSource(const fs::path& path, std::unique_ptr<StoredBytes> stored)
      : stored_(std::move(stored)), buffer_(kInputBuffer), stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr)
      core::fail(ExitCode::kOutOfMemory, {.path = path, .field = "zstd", .found = "no memory"});
  }

  size_t read(char* out, size_t capacity) override {
    ZSTD_outBuffer output{out, capacity, 0};
    while (output.pos < output.size) {
      if (input_.pos == input_.size) refill();
      const bool starved = input_.pos == input_.size;
      if (starved && !inside_frame_) break;
      const size_t before = output.pos, input_before = input_.pos;
      const size_t result = ZSTD_decompressStream(stream_.get(), &output, &input_);
      if (ZSTD_isError(result) != 0) damaged("zstd", ZSTD_getErrorName(result));
      inside_frame_ = result != 0;
      if (starved && inside_frame_ && output.pos == before)
        damaged("zstd", "the file ends inside the stream");
      consumed_ += input_.pos - input_before;
      produced_ += output.pos - before;
      check_ratio();
    }
    return output.pos;
  }
  uint64_t input_size() const override { return stored_->size(); }
  uint64_t input_read() const override { return stored_->done(); }

 private:
  struct FreeStream {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };

  void check_ratio() const {
    if (produced_ <= kMostRatio * consumed_ + kAnyRatio) return;
    throw BadStream{"zstd", fmt::format("at most {} bytes of text per byte", kMostRatio),
                    fmt::format("{} from {}", produced_, consumed_), "decompress the file first"};
  }

  void refill() { input_ = {buffer_.data(), stored_->read(buffer_.data(), buffer_.size()), 0}; }

  // zstd packs 128 KiB of one letter into 4 bytes: a small file could become gigabytes. Its limit
  // is twice the ratio that gzip cannot exceed (1,032); a text of up to kAnyRatio is taken in any
  // case.
  static constexpr uint64_t kMostRatio = 2048, kAnyRatio = uint64_t{1} << 20;

  std::unique_ptr<StoredBytes> stored_;
  std::vector<char> buffer_;
  std::unique_ptr<ZSTD_DStream, FreeStream> stream_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  uint64_t consumed_ = 0, produced_ = 0;
  bool inside_frame_ = true;  // an empty file is a truncated one
};

}  // namespace

std::unique_ptr<ByteSource> open_byte_source(const fs::path& path) {
  return make_byte_source(path, std::make_unique<InputFile>(path));
}

std::unique_ptr<ByteSource> make_byte_source(const fs::path& path,
                                             std::unique_ptr<StoredBytes> stored) {
  if (path.extension() == ".gz") return std::make_unique<GzipSource>(path, std::move(stored));
  if (path.extension() == ".zst") return std::make_unique<ZstdSource>(path, std::move(stored));
  return std::make_unique<PlainSource>(path, std::move(stored));
}

}  // namespace data
