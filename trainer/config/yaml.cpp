// yaml-cpp is used as a stream of events only: its tree would expand aliases and merge duplicates.
#include "trainer/config/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>
#include <unordered_set>

#include "core/text.h"

namespace trainer {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxNodes = 20000;

std::string on_one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    line += code < 0x20 ? fmt::format("\\x{:02x}", code) : std::string(1, c);
  }
  return line;
}

// Ends the parse; the reason is already among the problems.
struct StopParsing {};

using OverrideText = std::shared_ptr<const std::string>;

Origin origin_of(const YAML::Mark& mark, const OverrideText& override_text) {
  return {mark.line + 1, mark.column + 1, override_text};
}

// Builds the tree. Invariant: open_ holds the unfinished lists and mappings, outermost first.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, OverrideText override_text, Problems& problems)
      : override_text_(std::move(override_text)), problems_(problems) {
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      lines_.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
  }

  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const std::string_view line =
        static_cast<size_t>(mark.line) < lines_.size() ? lines_[mark.line] : std::string_view();
    if (static_cast<size_t>(mark.column) < line.size() && line[mark.column] == '~')
      problems_.add(at(mark), {.expected = "a value", .found = "\"~\"", .hint = "write null"});
    finish(start(mark, "?", anchor, YamlNode::Kind::kNull));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    problems_.add(at(mark), {.expected = "a plain value",
                             .found = "an alias",
                             .hint = "anchors/tags not supported: write the value out"});
    finish(start(mark, "?", YAML::NullAnchor, YamlNode::Kind::kNull));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = start(mark, tag, anchor, YamlNode::Kind::kScalar);
    node.text = value;
    node.quoted = tag == "!";
    finish(std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(start(mark, tag, anchor, YamlNode::Kind::kList));
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(start(mark, tag, anchor, YamlNode::Kind::kMap));
  }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    YamlNode node;
    std::unordered_set<std::string> keys = {};
    bool expects_key = true;  // of a mapping
  };

  Origin at(const YAML::Mark& mark) const { return origin_of(mark, override_text_); }

  YamlNode start(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                 YamlNode::Kind kind) {
    if (++n_nodes_ > kMaxNodes) {
      problems_.add(at(mark), {.expected = fmt::format("at most {} keys and values", kMaxNodes),
                               .found = "more"});
      throw StopParsing();
    }
    if (anchor != YAML::NullAnchor)
      problems_.add(at(mark), {.expected = "a plain value",
                               .found = "an anchor",
                               .hint = "anchors/tags not supported: write the value out"});
    if (!tag.empty() && tag != "?" && tag != "!") {
      problems_.add(at(mark), {.expected = "a plain value",
                               .found = "the tag " + quoted_for_message(tag),
                               .hint = "anchors/tags not supported: remove the tag"});
      // A %TAG directive of half a megabyte is expanded for each of them.
      if (problems_.is_full()) throw StopParsing();
    }
    YamlNode node;
    node.kind = kind;
    node.origin = at(mark);
    return node;
  }

  void open(YamlNode node) {
    if (open_.size() == kMaxDepth) {
      problems_.add(node.origin, {.expected = fmt::format("at most {} levels", kMaxDepth),
                                  .found = "deeper nesting"});
      throw StopParsing();
    }
    open_.push_back({std::move(node)});
  }

  void close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    finish(std::move(node));
  }

  void finish(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (parent.expects_key) {
      add_key(parent, std::move(node));
      parent.expects_key = false;
    } else {
      parent.node.entries.back().value = std::move(node);
      parent.expects_key = true;
    }
  }

  void add_key(Open& parent, YamlNode key) {
    if (key.kind != YamlNode::Kind::kScalar) {
      problems_.add(key.origin, {.expected = "a key", .found = "a value that cannot be one"});
    } else if (key.text == "<<" && !key.quoted) {
      problems_.add(key.origin, {.expected = "a key",
                                 .found = "the merge key '<<'",
                                 .hint = "anchors/tags not supported: write the keys out"});
    } else if (!parent.keys.insert(key.text).second) {
      const auto& entries = parent.node.entries;
      const auto first = problems_.is_full()
                             ? entries.begin()
                             : std::find_if(entries.begin(), entries.end(),
                                            [&](const YamlEntry& e) { return e.key == key.text; });
      problems_.add(key.origin,
                    {.expected = "each key once",
                     .found = fmt::format("the duplicate key {}", quoted_for_message(key.text)),
                     .hint = fmt::format("it is already set at line {}; remove one of them",
                                         first->origin.line)});
    }
    parent.node.entries.push_back({key.text, key.origin, YamlNode{.origin = key.origin}});
  }

  OverrideText override_text_;
  Problems& problems_;
  std::vector<std::string_view> lines_;
  std::vector<Open> open_;
  YamlNode root_;
  size_t n_nodes_ = 0;
};

// Refuses what yaml-cpp would guess at or pass through. Positions are line:column, with the byte
// offset in the message.
void check_bytes(std::string_view text, const OverrideText& override_text, Problems& problems) {
  const auto refuse = [&](size_t offset, const std::string& found, const std::string& hint) {
    const std::string_view before = text.substr(0, offset);
    const auto line = static_cast<int>(std::count(before.begin(), before.end(), '\n'));
    const size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
    problems.add({line + 1, static_cast<int>(offset - line_start) + 1, override_text},
                 {.expected = "UTF-8 text",
                  .found = fmt::format("{} at byte {}", found, offset),
                  .hint = hint});
    problems.fail();
  };
  if (text.size() > kMaxBytes) {
    problems.add({1, 1, override_text}, {.field = "size",
                                         .expected = fmt::format("at most {} bytes", kMaxBytes),
                                         .found = std::to_string(text.size())});
    problems.fail();
  }
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"))
    refuse(0, "UTF-16", "save the file as UTF-8");
  const size_t invalid = core::find_invalid_utf8(text);
  if (invalid != std::string_view::npos)
    refuse(invalid, "an invalid sequence", "save the file as UTF-8");
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\t') refuse(i, "a tab", "indent with spaces");
    if (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    if ((c < 0x20 && c != '\n') || c == 0x7F)
      refuse(i, fmt::format("the control character 0x{:02x}", c), "remove it");
  }
}

YamlNode parse_document(std::string_view text, const OverrideText& override_text,
                        Problems& problems) {
  check_bytes(text, override_text, problems);
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  TreeBuilder builder(text, override_text, problems);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    YamlNode root = builder.take_root();
    if (parser.HandleNextDocument(builder)) {
      problems.add(builder.take_root().origin,
                   {.expected = "one document", .found = "a second one after '---'"});
      problems.fail();
    }
    return root;
  } catch (const StopParsing&) {
    problems.fail();
  } catch (const YAML::Exception& e) {
    problems.add(origin_of(e.mark, override_text),
                 {.expected = "valid YAML", .found = "a syntax error", .hint = e.msg});
    problems.fail();
  }
}

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (const YamlEntry& entry : entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

YamlNode* YamlNode::find(std::string_view key) {
  return const_cast<YamlNode*>(static_cast<const YamlNode*>(this)->find(key));
}

void Problems::add(const Origin& origin, core::Fault fault) {
  if (is_full()) {
    ++n_hidden_;
    return;
  }
  if (origin.is_override()) {
    const std::string shown = quoted_for_message(*origin.override_text);
    fault.path = fmt::format("override {}", shown.substr(1, shown.size() - 2));
  } else {
    fault.path = path_;
    fault.place = fmt::format("{}:{}", origin.line, origin.column);
  }
  problems_.push_back({origin, on_one_line(core::format_fault(fault))});
}

void Problems::fail() const {
  std::vector<Problem> sorted = problems_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Problem& a, const Problem& b) {
    const bool a_last = a.origin.is_override(), b_last = b.origin.is_override();
    if (a_last != b_last) return b_last;
    return !a_last &&
           std::pair(a.origin.line, a.origin.column) < std::pair(b.origin.line, b.origin.column);
  });
  std::string text;
  for (const Problem& problem : sorted) text += problem.line + "\n";
  if (n_hidden_ > 0) text += fmt::format("and {} more\n", n_hidden_);
  const size_t n = sorted.size() + n_hidden_;
  if (n == 1)
    text.pop_back();  // one error is one line
  else
    text += fmt::format("{} errors; nothing was started.", n);
  throw core::Error(core::ExitCode::kBadConfig, text);
}

YamlNode parse_yaml(std::string_view text, Problems& problems) {
  return parse_document(text, nullptr, problems);
}

YamlNode parse_override_value(std::string_view value, const Origin& origin, Problems& problems) {
  return parse_document(value, origin.override_text, problems);
}

std::string quoted_for_message(std::string_view text) {
  constexpr size_t kMaxShown = 60;
  const bool is_cut = text.size() > kMaxShown;
  return fmt::format("\"{}{}\"", on_one_line(text.substr(0, kMaxShown)), is_cut ? "..." : "");
}

}  // namespace trainer
