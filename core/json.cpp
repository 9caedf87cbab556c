#include "core/json.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/file.h"

namespace core {
namespace {

constexpr size_t kMaxDepth = 64;
// So that memory stays bounded: a value takes at least two bytes of text and 16 of memory, a list
// or an object three bytes and 80. The merges of the largest tokenizers are half a million lists.
constexpr size_t kMaxValues = size_t{1} << 24, kMaxContainers = size_t{1} << 20;

using Json = nlohmann::json;

// Builds the tree value by value. Why not the library's parser with a callback: at the end of every
// object it looks through all of the list around it, which takes hours for a hostile file.
// Invariant: open_ holds the unfinished lists and objects, outermost first; only the last one
// grows, so the pointers stay good.
class TreeBuilder final : public nlohmann::json_sax<Json> {
 public:
  explicit TreeBuilder(const std::string& path) : path_(path) {}

  Json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(int64_t value) override { return put(value); }
  bool number_unsigned(uint64_t value) override { return put(value); }
  bool number_float(double value, const std::string&) override { return put(value); }
  bool string(std::string& value) override { return put(std::move(value)); }
  bool binary(Json::binary_t&) override { refuse("binary data"); }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& name) override {
    const auto [it, is_new] = open_.back()->get_ref<Json::object_t&>().try_emplace(name, nullptr);
    if (!is_new) refuse("duplicate key \"" + name + "\"");
    slot_ = &it->second;
    return true;
  }
  bool parse_error(size_t byte, const std::string&, const Json::exception& error) override {
    fail(ExitCode::kBadData, {.path = path_,
                              .place = "byte " + std::to_string(byte),
                              .field = "JSON",
                              .expected = "valid JSON",
                              .found = error.what()});
  }

 private:
  [[noreturn]] void refuse(const std::string& found) const {
    fail(ExitCode::kBadData, {.path = path_, .field = "JSON", .found = found});
  }

  // Where the next value belongs.
  Json& place() {
    if (++values_ > kMaxValues) refuse("more than " + std::to_string(kMaxValues) + " values");
    if (open_.empty()) return root_;
    if (open_.back()->is_object()) return *slot_;
    return open_.back()->get_ref<Json::array_t&>().emplace_back();
  }
  template <class Value>
  bool put(Value&& value) {
    place() = std::forward<Value>(value);
    return true;
  }
  bool open(Json container) {
    if (open_.size() == kMaxDepth) refuse("nesting deeper than " + std::to_string(kMaxDepth));
    if (++containers_ > kMaxContainers)
      refuse("more than " + std::to_string(kMaxContainers) + " lists and objects");
    Json& value = place();
    value = std::move(container);
    open_.push_back(&value);
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& path_;
  Json root_;
  std::vector<Json*> open_;
  Json* slot_ = nullptr;  // of the key just read
  size_t values_ = 0, containers_ = 0;
};

}  // namespace

nlohmann::json parse_json(const std::string& path, const std::string& text) {
  // The parser takes NUL for the end of the text and would not look at what follows.
  if (const size_t nul = text.find('\0'); nul != std::string::npos)
    fail(ExitCode::kBadData, {.path = path,
                              .place = "byte " + std::to_string(nul),
                              .field = "JSON",
                              .expected = "text",
                              .found = "a NUL byte"});
  TreeBuilder builder(path);
  Json::sax_parse(text, &builder);  // an error is thrown by the builder
  return builder.take();
}

nlohmann::json read_json(const std::string& path, uint64_t max_bytes) {
  return parse_json(path, read_text(path, max_bytes));
}

}  // namespace core
