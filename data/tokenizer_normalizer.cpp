#include "data/tokenizer_normalizer.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"
#include "data/utf8.h"

namespace data {
namespace {

using Points = std::vector<utf8proc_int32_t>;
constexpr auto kNfc = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

size_t nfc_size(utf8proc_ssize_t size) {
  if (size < 0)
    core::fail(core::ExitCode::kBadData, {.field = "text",
                                          .expected = "text that NFC can normalize",
                                          .found = utf8proc_errmsg(size)});
  return static_cast<size_t>(size);
}

void append_decomposed(Points& points, char32_t c) {
  const auto point = static_cast<utf8proc_int32_t>(c);
  if (c < 0xC0) return points.push_back(point);  // the first that decomposes is U+00C0
  std::array<utf8proc_int32_t, 8> parts;         // canonically never more than 4
  const size_t count =
      nfc_size(utf8proc_decompose_char(point, parts.data(), parts.size(), kNfc, nullptr));
  points.insert(points.end(), parts.begin(), parts.begin() + std::min(count, parts.size()));
}

// The canonical order: every run of marks by combining class, equal ones as they stood.
void sort_marks(Points& points) {
  const auto mark = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  const auto before = [&](utf8proc_int32_t a, utf8proc_int32_t b) { return mark(a) < mark(b); };
  for (auto at = points.begin(); at != points.end();) {
    const auto begin = std::find_if(at, points.end(), mark);
    at = std::find_if_not(begin, points.end(), mark);
    if (!std::is_sorted(begin, at, before)) std::stable_sort(begin, at, before);
  }
}

// Why not utf8proc_map: it sorts by swapping neighbours, in time quadratic in the run of marks.
void append_nfc(std::string& out, std::string_view text, Points& points) {
  points.clear();
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    append_decomposed(points, c.value);
    at += c.length;
  }
  sort_marks(points);
  const size_t size = nfc_size(
      utf8proc_normalize_utf32(points.data(), static_cast<utf8proc_ssize_t>(points.size()), kNfc));
  for (size_t i = 0; i < size; ++i) append_utf8(out, static_cast<char32_t>(points[i]));
}

// An ASCII character composes with nothing before it: text is cut there, and ASCII that has only
// ASCII after it stays as it is.
std::string to_nfc(std::string text) {
  auto at = text.cbegin();
  auto other = std::find_if_not(at, text.cend(), is_ascii);
  if (other == text.cend()) return text;
  std::string out;
  out.reserve(text.size());
  Points points;
  for (; other != text.cend(); other = std::find_if_not(at, text.cend(), is_ascii)) {
    const auto begin = other == at ? at : other - 1;
    const auto end = std::find_if(other, text.cend(), is_ascii);
    out.append(at, begin);
    append_nfc(out, {begin, end}, points);
    at = end;
  }
  return out.append(at, text.cend());
}

void check_rewritten(size_t bytes, size_t most) {
  if (bytes <= most) return;
  core::fail(core::ExitCode::kBadData,
             {.field = "text",
              .expected = fmt::format("at most {} times its bytes and {} more after the tokenizer "
                                      "has rewritten it",
                                      most_rewritten_bytes(1) - most_rewritten_bytes(0),
                                      most_rewritten_bytes(0)),
              .found = "more"});
}

const std::string& short_string(const JsonNode& node) {
  const std::string& text = node.string();
  if (text.size() > kMaxReplacedBytes)
    node.refuse(fmt::format("at most {} bytes", kMaxReplacedBytes), std::to_string(text.size()));
  return text;
}

}  // namespace

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content,
                        size_t most) {
  std::string out;
  out.reserve(text.size());
  size_t from = 0;
  for (size_t at; (at = text.find(pattern, from)) != std::string_view::npos;
       from = at + pattern.size()) {
    out.append(text.substr(from, at - from)).append(content);
    check_rewritten(out.size(), most);
  }
  check_rewritten(out.size() + text.size() - from, most);
  return out.append(text.substr(from));
}

Replacement parse_replacement(const JsonNode& node) {
  node.allow_keys({"type", "pattern", "content"});
  const JsonNode pattern = node.at("pattern");
  if (!pattern.value().is_object() || !pattern.value().contains("String"))
    pattern.refuse("{\"String\": ...}, the only kind supported here");
  pattern.allow_keys({"String"});
  Replacement replacement{short_string(pattern.at("String")), short_string(node.at("content"))};
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
    for (const JsonNode& item : node.at("normalizers").items(kMaxComponents)) add(item);
  } else if (type == "Prepend") {
    node.allow_keys({"type", "prepend"});
    steps_.push_back([prefix = short_string(node.at("prepend"))](std::string text, size_t most) {
      if (text.empty()) return text;
      check_rewritten(prefix.size() + text.size(), most);
      return prefix + text;
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

std::string Normalizer::operator()(std::string text, size_t& budget) const {
  for (const Step& step : steps_) text = step(std::move(text), budget);
  check_rewritten(text.size(), budget);
  budget -= text.size();
  return text;
}

std::string Normalizer::operator()(std::string text) const {
  size_t budget = most_rewritten_bytes(text.size());
  return (*this)(std::move(text), budget);
}

}  // namespace data
