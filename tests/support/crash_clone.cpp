#include "tests/support/crash_clone.h"

#include <fcntl.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

namespace test_support {

namespace fs = std::filesystem;
using core::io::Operation;

CrashJournal::CrashJournal(const fs::path& root, Forget forget)
    : root_(root.string()), forget_(forget), nodes_{{.is_folder = true, .children = {}}} {
  earlier_ = core::io::install_observer(this);
}

CrashJournal::~CrashJournal() { core::io::install_observer(earlier_); }

// Nothing for what is not below the root.
std::optional<CrashJournal::Place> CrashJournal::place_of(const std::string& path) const {
  if (!path.starts_with(root_ + "/")) return std::nullopt;
  std::istringstream names(path.substr(root_.size() + 1));
  Place place{kRoot, ""};
  for (std::string name; std::getline(names, name, '/');) {
    if (name.empty()) continue;
    if (!place.name.empty()) place.folder = node_at(place);
    if (place.folder == kNone) return std::nullopt;
    place.name = name;
  }
  return place;
}

int CrashJournal::node_at(const Place& place) const {
  const auto& children = nodes_[static_cast<size_t>(place.folder)].children;
  const auto at = children.find(place.name);
  return at == children.end() ? kNone : at->second;
}

int CrashJournal::add_node(bool is_folder) {
  nodes_.push_back({.is_folder = is_folder, .children = {}});
  return static_cast<int>(nodes_.size()) - 1;
}

void CrashJournal::change_names(std::vector<Link> links) {
  for (const auto& [place, node] : links) {
    auto& children = nodes_[static_cast<size_t>(place.folder)].children;
    if (node == kNone)
      children.erase(place.name);
    else
      children[place.name] = node;
  }
  records_.push_back({.kind = Record::Kind::names, .links = std::move(links)});
}

core::io::Verdict CrashJournal::before(const core::io::Call& call) {
  const std::lock_guard lock(mutex_);
  const auto file = open_.find(call.fd);
  if (call.operation != Operation::sync || file == open_.end()) return {};
  const bool is_folder = nodes_[static_cast<size_t>(file->second.node)].is_folder;
  return {.swallow = forget_ == (is_folder ? Forget::folder_syncs : Forget::file_syncs)};
}

void CrashJournal::opened(const core::io::Call& call, int fd) {
  open_.erase(fd);
  int node = kRoot;
  if (call.path != root_) {
    const std::optional<Place> place = place_of(call.path);
    if (!place) return;
    node = node_at(*place);
    if (node == kNone && (call.flags & O_CREAT) != 0)
      change_names({{*place, node = add_node(false)}});
  }
  if (node == kNone) return;
  Node& file = nodes_[static_cast<size_t>(node)];
  if ((call.flags & O_TRUNC) != 0 && file.size > 0) {
    records_.push_back({.kind = Record::Kind::resize, .node = node});
    file.size = 0;
  }
  open_[fd] = {.node = node, .append = (call.flags & O_APPEND) != 0};
}

void CrashJournal::wrote(const core::io::Call& call, uint64_t bytes) {
  OpenFile& file = open_.at(call.fd);
  Node& node = nodes_[static_cast<size_t>(file.node)];
  uint64_t offset = file.append ? node.size : file.position;
  if (call.offset >= 0) offset = static_cast<uint64_t>(call.offset);
  records_.push_back({.kind = Record::Kind::data,
                      .node = file.node,
                      .offset = offset,
                      .bytes = std::string(static_cast<const char*>(call.data), bytes)});
  node.size = std::max(node.size, offset + bytes);
  if (call.offset < 0) file.position = offset + bytes;
}

void CrashJournal::renamed(const core::io::Call& call) {
  const std::optional<Place> from = place_of(call.path), to = place_of(call.target);
  if (!from || !to) return;
  const int other = call.operation == Operation::exchange ? node_at(*to) : kNone;
  change_names({{*to, node_at(*from)}, {*from, other}});
}

void CrashJournal::after(const core::io::Call& call, int64_t result) {
  const std::lock_guard lock(mutex_);
  if (call.operation == Operation::close) open_.erase(call.fd);
  if (result < 0) return;
  if (call.operation == Operation::open) return opened(call, static_cast<int>(result));
  if (call.operation == Operation::rename || call.operation == Operation::exchange)
    return renamed(call);
  if (call.path != nullptr) {
    const std::optional<Place> place = place_of(call.path);
    if (!place) return;
    if (call.operation == Operation::mkdir) change_names({{*place, add_node(true)}});
    if (call.operation == Operation::unlink || call.operation == Operation::rmdir)
      change_names({{*place, kNone}});
    return;
  }
  const auto file = open_.find(call.fd);
  if (file == open_.end()) return;
  const int node = file->second.node;
  const bool is_folder = nodes_[static_cast<size_t>(node)].is_folder;
  if (call.operation == Operation::write) wrote(call, static_cast<uint64_t>(result));
  if (call.operation == Operation::truncate) {
    records_.push_back({.kind = Record::Kind::resize, .node = node, .size = call.size});
    nodes_[static_cast<size_t>(node)].size = call.size;
  }
  if (call.operation == Operation::sync &&
      forget_ != (is_folder ? Forget::folder_syncs : Forget::file_syncs))
    records_.push_back({.kind = Record::Kind::sync, .node = node});
}

// Which of the first `length` records a sync among them made durable.
std::vector<bool> CrashJournal::durable(size_t length) const {
  std::vector<bool> result(length, false);
  std::set<int> synced;  // by what comes after
  for (size_t i = length; i-- > 0;) {
    const Record& record = records_[i];
    if (record.kind == Record::Kind::sync) synced.insert(record.node);
    if (record.kind == Record::Kind::names)
      result[i] = std::all_of(record.links.begin(), record.links.end(),
                              [&](const Link& link) { return synced.contains(link.place.folder); });
    else
      result[i] = synced.contains(record.node);
  }
  return result;
}

// Contents and names as they are after the crash.
struct CrashJournal::Disk {
  std::map<int, std::string> contents;
  std::map<int, std::map<std::string, int>> names;

  void write(const Record& record, const std::vector<bool>& sectors) {
    std::string& content = contents[record.node];
    content.resize(std::max(content.size(), record.offset + record.bytes.size()));
    for (size_t i = 0; i < sectors.size(); ++i)
      if (sectors[i])
        content.replace(record.offset + i * kSector,
                        std::min(kSector, record.bytes.size() - i * kSector), record.bytes,
                        i * kSector, kSector);
  }
  void materialize(const std::vector<Node>& nodes, int folder, const fs::path& path) const {
    const auto children = names.find(folder);
    if (children == names.end()) return;
    for (const auto& [name, node] : children->second) {
      if (!nodes[static_cast<size_t>(node)].is_folder) {
        const auto content = contents.find(node);
        std::ofstream(path / name, std::ios::binary)
            << (content == contents.end() ? std::string() : content->second);
        continue;
      }
      fs::create_directory(path / name);
      materialize(nodes, node, path / name);
    }
  }
  static constexpr size_t kSector = 512;
};

void CrashJournal::rebuild(size_t length, std::mt19937_64& random, const fs::path& clone) const {
  // Also the extremes: nothing that was not synced survives, or all of it.
  static constexpr double kChances[] = {0, 0.1, 0.5, 0.9, 1};
  std::bernoulli_distribution survives(kChances[random() % std::size(kChances)]);
  std::bernoulli_distribution is_torn(0.3);
  const std::vector<bool> is_durable = durable(length);
  Disk disk;
  for (size_t i = 0; i < length; ++i) {
    const Record& record = records_[i];
    if (record.kind == Record::Kind::sync || !(is_durable[i] || survives(random))) continue;
    if (record.kind == Record::Kind::resize) disk.contents[record.node].resize(record.size);
    if (record.kind == Record::Kind::data) {
      std::vector<bool> sectors((record.bytes.size() + Disk::kSector - 1) / Disk::kSector, true);
      if (!is_durable[i] && is_torn(random))
        for (size_t s = 0; s < sectors.size(); ++s) sectors[s] = random() % 2 == 0;
      disk.write(record, sectors);
    }
    for (const auto& [place, node] : record.links) {
      if (node == kNone)
        disk.names[place.folder].erase(place.name);
      else
        disk.names[place.folder][place.name] = node;
    }
  }
  disk.materialize(nodes_, kRoot, clone);
}

}  // namespace test_support
