#include "model/torch_pickle.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "core/error.h"

namespace model {
namespace {

// A tensor's pickle has some thirty nodes and names of some thirty letters. What the memo copies is
// bounded by the two together: 16 MiB.
constexpr size_t kMaxStack = 256, kMaxMemo = 256, kMaxNodes = 4096, kMaxText = 4096;
constexpr char kRebuild[] = "torch._utils _rebuild_tensor_v2";

enum class NodeKind { integer, text, global, tuple, dictionary, storage, call };

struct Node {
  NodeKind kind = NodeKind::integer;
  int64_t number = 0;
  std::string text = {};            // of text; "module name" of global
  std::vector<Node> children = {};  // of tuple and storage; of call: what is called, its arguments
};

class Machine {
 public:
  Machine(const std::string& path, std::string_view pickle) : path_(path), rest_(pickle) {}

  Node run() {
    for (;;) {
      const auto code = static_cast<uint8_t>(take(1)[0]);
      if (code == '.') break;
      step(code);
      if (stack_.size() > kMaxStack || ++steps_ > kMaxNodes) refuse("a longer pickle");
    }
    if (!marks_.empty()) refuse("an open tuple");
    return pop();
  }

  [[noreturn]] void refuse(const std::string& found) const {
    core::fail(core::ExitCode::kBadData, {.path = path_,
                                          .place = "data.pkl",
                                          .field = "pickle",
                                          .expected = "one tensor of torch.save",
                                          .found = found});
  }

 private:
  void step(uint8_t code) {
    switch (code) {
      case 0x80:  // PROTO
        take(1);
        return;
      case 'c': {
        std::string name = line();
        name += " " + line();
        return push({.kind = NodeKind::global, .text = std::move(name)});
      }
      case '(':
        return marks_.push_back(stack_.size());
      case 't':
        return tuple_from_mark();
      case ')':
        return push({.kind = NodeKind::tuple});
      case 0x85:
      case 0x86:
      case 0x87:
        return gather(NodeKind::tuple, code - 0x84U);
      case '}':
        return push({.kind = NodeKind::dictionary});
      case 'X':
        return push({.kind = NodeKind::text, .text = text(little_endian(4))});
      case 'J':
        return push({.number = static_cast<int32_t>(little_endian(4))});
      case 'K':
        return push({.number = static_cast<int64_t>(little_endian(1))});
      case 'M':
        return push({.number = static_cast<int64_t>(little_endian(2))});
      case 0x8a:
        return long_integer();
      case 0x88:
      case 0x89:  // True, False
        return push({.number = code == 0x88});
      case 'Q':
        return gather(NodeKind::storage, 1);
      case 'R':
        return gather(NodeKind::call, 2);
      case 'q':
        return remember(little_endian(1));
      case 'r':
        return remember(little_endian(4));
      case 'h':
        return recall(little_endian(1));
      default:
        refuse(fmt::format("opcode {:#04x}", code));
    }
  }

  std::string_view take(size_t size) {
    if (size > rest_.size()) refuse("its end in the middle");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  uint64_t little_endian(size_t width) {
    uint64_t value = 0;
    const std::string_view bytes = take(width);
    for (size_t i = 0; i < width; ++i) value |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
    return value;
  }
  std::string text(size_t size) {
    if (size > kMaxText) refuse(fmt::format("a text of {} bytes", size));
    return std::string(take(size));
  }
  std::string line() {
    const size_t end = rest_.find('\n');
    if (end == std::string_view::npos) refuse("its end in the middle");
    std::string name = text(end);
    take(1);
    return name;
  }
  void long_integer() {
    const uint64_t width = little_endian(1);
    if (width > 8) refuse("an integer above 64 bits");
    uint64_t value = little_endian(width);
    const bool negative = width > 0 && width < 8 && (value >> (8 * width - 1)) != 0;
    if (negative) value |= ~uint64_t{0} << (8 * width);
    push({.number = static_cast<int64_t>(value)});
  }

  void push(Node node) { stack_.push_back(std::move(node)); }
  Node pop() {
    const size_t floor = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= floor) refuse("an empty stack");
    Node top = std::move(stack_.back());
    stack_.pop_back();
    return top;
  }
  // The topmost nodes become the children of one. They are moved: a copy would be of whole trees.
  void gather(NodeKind kind, size_t count) {
    Node node{.kind = kind, .children = std::vector<Node>(count)};
    for (size_t i = count; i-- > 0;) node.children[i] = pop();
    push(std::move(node));
  }
  void tuple_from_mark() {
    if (marks_.empty()) refuse("a tuple without a beginning");
    const size_t count = stack_.size() - marks_.back();
    gather(NodeKind::tuple, count);
    // The tuple lies above the mark that it ends.
    marks_.pop_back();
  }
  // Only leaves are ever taken out of the memo by torch.save; a copy of more could grow without
  // bound.
  void remember(uint64_t key) {
    if (stack_.empty()) refuse("an empty stack");
    if (memo_.size() >= kMaxMemo && !memo_.contains(key)) refuse("a longer pickle");
    if (stack_.back().children.empty()) memo_.insert_or_assign(key, stack_.back());
  }
  void recall(uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) refuse("a value that was not remembered");
    push(found->second);
  }

  const std::string& path_;
  std::string_view rest_;
  std::vector<Node> stack_;
  std::vector<size_t> marks_;
  std::map<uint64_t, Node> memo_;
  size_t steps_ = 0;
};

std::vector<int64_t> integers(const Machine& machine, const Node& tuple) {
  std::vector<int64_t> values;
  if (tuple.kind != NodeKind::tuple) machine.refuse("no sizes");
  for (const Node& child : tuple.children) {
    if (child.kind != NodeKind::integer || child.number < 0) machine.refuse("sizes that are none");
    values.push_back(child.number);
  }
  return values;
}

void append_integer(std::string& pickle, int64_t value) {
  pickle += 'J';
  for (int i = 0; i < 4; ++i) pickle += static_cast<char>((value >> (8 * i)) & 0xff);
}

void append_text(std::string& pickle, std::string_view text) {
  pickle += 'X';
  for (int i = 0; i < 4; ++i) pickle += static_cast<char>((text.size() >> (8 * i)) & 0xff);
  pickle += text;
}

void append_tuple(std::string& pickle, const std::vector<int64_t>& values) {
  pickle += '(';
  for (const int64_t value : values) append_integer(pickle, value);
  pickle += 't';
}

}  // namespace

// call(_rebuild_tensor_v2, (storage("storage", type, key, device, size), offset, shape, strides,
// requires_grad, hooks))
TorchStorageView parse_torch_pickle(const std::string& path, std::string_view pickle) {
  Machine machine(path, pickle);
  const Node top = machine.run();
  if (top.kind != NodeKind::call || top.children[0].kind != NodeKind::global ||
      top.children[0].text != kRebuild || top.children[1].kind != NodeKind::tuple)
    machine.refuse("another object");
  const std::vector<Node>& arguments = top.children[1].children;
  if (arguments.size() < 4 || arguments[0].kind != NodeKind::storage ||
      arguments[1].kind != NodeKind::integer || arguments[1].number < 0)
    machine.refuse("a tensor of another form");
  const Node& id = arguments[0].children[0];
  if (id.kind != NodeKind::tuple || id.children.size() < 3 || id.children[0].text != "storage" ||
      id.children[1].kind != NodeKind::global || id.children[2].kind != NodeKind::text)
    machine.refuse("a storage of another form");
  const std::string& type = id.children[1].text;
  TorchStorageView view{.type = type.starts_with("torch ") ? type.substr(6) : type,
                        .key = id.children[2].text,
                        .offset = arguments[1].number,
                        .shape = integers(machine, arguments[2]),
                        .strides = integers(machine, arguments[3])};
  if (view.shape.size() != view.strides.size()) machine.refuse("sizes without strides");
  return view;
}

std::string format_torch_pickle(const std::string& storage_type,
                                const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t count = 1;
  for (size_t i = shape.size(); i-- > 0; count *= shape[i]) strides[i] = count;
  std::string pickle =
      "\x80\x02"
      "ctorch._utils\n_rebuild_tensor_v2\n((";
  append_text(pickle, "storage");
  pickle += "ctorch\n" + storage_type + "\n";
  append_text(pickle, "0");
  append_text(pickle, "cpu");
  append_integer(pickle, count);
  pickle += "tQ";
  append_integer(pickle, 0);
  append_tuple(pickle, shape);
  append_tuple(pickle, strides);
  pickle +=
      "\x89"
      "ccollections\nOrderedDict\n)RtR.";
  return pickle;
}

}  // namespace model
