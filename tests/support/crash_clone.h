// What a disk may hold after a power loss. A journal of file operations is recorded, and a clone of
// the folder is built from a prefix of it in which any subset of the changes that were not synced
// is lost: data (also in part, by sectors) until its file is synced, names until their folder is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/io.h"

namespace test_support {

class CrashJournal : public core::io::Observer {
 public:
  // The mutants: a program that forgets to sync.
  enum class Forget { nothing, file_syncs, folder_syncs };

  // Records what happens below `root`, an empty folder that counts as durable, until destroyed.
  explicit CrashJournal(const std::filesystem::path& root, Forget forget = Forget::nothing);
  ~CrashJournal() override;
  CrashJournal(const CrashJournal&) = delete;
  CrashJournal& operator=(const CrashJournal&) = delete;

  size_t size() const { return records_.size(); }

  // Fills the empty folder `clone` with what power loss after the first `length` records leaves.
  void rebuild(size_t length, std::mt19937_64& random, const std::filesystem::path& clone) const;

  core::io::Verdict before(const core::io::Call& call) override;
  void after(const core::io::Call& call, int64_t result) override;

 private:
  static constexpr int kNone = -1;
  static constexpr int kRoot = 0;

  struct Node {
    bool is_folder;
    std::map<std::string, int> children;
    uint64_t size = 0;
  };
  struct OpenFile {
    int node;
    bool append;
    uint64_t position = 0;
  };
  struct Place {  // a name in a folder
    int folder;
    std::string name;
  };
  struct Link {
    Place place;
    int node;  // kNone: the name is gone
  };
  struct Record {
    enum class Kind { data, resize, sync, names } kind;
    int node = kNone;  // data, resize, sync
    uint64_t offset = 0;
    std::string bytes = {};
    uint64_t size = 0;
    std::vector<Link> links = {};  // names: one change, whole or not at all
  };
  struct Disk;

  std::optional<Place> place_of(const std::string& path) const;
  int node_at(const Place& place) const;
  int add_node(bool is_folder);
  void change_names(std::vector<Link> links);
  void opened(const core::io::Call& call, int fd);
  void wrote(const core::io::Call& call, uint64_t bytes);
  void renamed(const core::io::Call& call);
  std::vector<bool> durable(size_t length) const;

  const std::string root_;
  const Forget forget_;
  std::mutex mutex_;
  std::vector<Node> nodes_;
  std::map<int, OpenFile> open_;
  std::vector<Record> records_;
  core::io::Observer* earlier_;
};

}  // namespace test_support
