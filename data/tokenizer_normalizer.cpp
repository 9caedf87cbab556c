#include "data/tokenizer_normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "core/error.h"

namespace data {
namespace {

std::string to_nfc(std::string text) {
  const auto ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if (std::all_of(text.begin(), text.end(), ascii)) return text;
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size < 0) {
    const auto code =
        size == UTF8PROC_ERROR_NOMEM ? core::ExitCode::kOutOfMemory : core::ExitCode::kBadData;
    core::fail(code, {.field = "text",
                      .expected = "text that NFC can normalize",
                      .found = utf8proc_errmsg(size)});
  }
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  return std::string(reinterpret_cast<const char*>(composed), static_cast<size_t>(size));
}

}  // namespace

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content,
                        size_t most) {
  const auto check = [&](size_t size) {
    if (size > most)
      core::fail(
          core::ExitCode::kBadData,
          {.field = "text",
           .expected = fmt::format("at most {} bytes after a Replace of the tokenizer", most),
           .found = "more"});
  };
  std::string out;
  out.reserve(text.size());
  size_t from = 0;
  for (size_t at; (at = text.find(pattern, from)) != std::string_view::npos;
       from = at + pattern.size()) {
    out.append(text.substr(from, at - from)).append(content);
    check(out.size());
  }
  check(out.size() + text.size() - from);
  return out.append(text.substr(from));
}

Replacement parse_replacement(const JsonNode& node) {
  node.allow_keys({"type", "pattern", "content"});
  const JsonNode pattern = node.at("pattern");
  if (!pattern.value().is_object() || !pattern.value().contains("String"))
    pattern.refuse("{\"String\": ...}, the only kind supported here");
  pattern.allow_keys({"String"});
  Replacement replacement{pattern.at("String").string(), node.at("content").string()};
  if (replacement.pattern.empty()) pattern.refuse("a pattern that is not empty", "\"\"");
  return replacement;
}

Normalizer Normalizer::parse(const std::optional<JsonNode>& node) {
  Normalizer normalizer;
  if (node) normalizer.add(*node);
  return normalizer;
}

void Normalizer::add(const JsonNode& node) {
  if (steps_.size() == kMaxComponents)
    node.refuse(fmt::format("at most {} normalizers", kMaxComponents), "more");
  const std::string& type = node.type();
  if (type == "Sequence") {
    node.allow_keys({"type", "normalizers"});
    for (const JsonNode& item : node.at("normalizers").items()) add(item);
  } else if (type == "Prepend") {
    node.allow_keys({"type", "prepend"});
    steps_.push_back([prefix = node.at("prepend").string()](std::string text, size_t) {
      return text.empty() ? text : prefix + text;
    });
  } else if (type == "Replace") {
    steps_.push_back([r = parse_replacement(node)](const std::string& text, size_t most) {
      return replace_all(text, r.pattern, r.content, most);
    });
  } else if (type == "NFC") {
    node.allow_keys({"type"});
    steps_.push_back([](std::string text, size_t) { return to_nfc(std::move(text)); });
  } else {
    node.at("type").refuse("one of the supported normalizers Sequence, Prepend, Replace, NFC");
  }
}

std::string Normalizer::operator()(std::string text) const {
  const size_t most = most_rewritten_bytes(text.size());
  for (const Step& step : steps_) text = step(std::move(text), most);
  return text;
}

}  // namespace data
