#include "trainer/checkpoint/state_snapshot.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/hash.h"
#include "core/trace.h"
#include "trainer/ranks/parallel_entries.h"
#include "trainer/ranks/pieces.h"

namespace trainer {
namespace {

using core::ExitCode;

constexpr uint64_t kAlignment = 64;
// Copied, and hashed while it is still in the cache.
constexpr uint64_t kPiece = 256 << 10;

std::string copy_and_hash(const void* from, std::byte* to, uint64_t bytes) {
  core::Hasher hasher;
  for (uint64_t done = 0; done < bytes; done += kPiece) {
    const uint64_t piece = std::min(kPiece, bytes - done);
    std::memcpy(to + done, static_cast<const std::byte*>(from) + done, piece);
    hasher.update(to + done, piece);
  }
  return hasher.hex();
}

[[noreturn]] void fail_memory(uint64_t bytes) {
  core::fail(ExitCode::kOutOfMemory,
             {.field = "memory for the copy of the state that a checkpoint is written from",
              .expected = std::to_string(bytes) + " bytes",
              .found = "the system refuses them"});
}

std::byte* map_memory(uint64_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail_memory(bytes);
  ::madvise(memory, bytes, MADV_HUGEPAGE);
  // Every page now: what the machine lacks must show before the first step, not at the first save.
  // A kernel that does not know the advice hands pages out as they are written.
  if (::madvise(memory, bytes, MADV_POPULATE_WRITE) != 0 && errno == ENOMEM) {
    ::munmap(memory, bytes);
    fail_memory(bytes);
  }
  return static_cast<std::byte*>(memory);
}

}  // namespace

void StateSnapshot::Unmap::operator()(std::byte* memory) const { ::munmap(memory, size); }

StateSnapshot::StateSnapshot(const StateRegistry& registry)
    : view_{registry.sources(), {}}, memory_(nullptr, Unmap{0}) {
  for (const H5Source& source : view_.sources) {
    offsets_.push_back(bytes_);
    bytes_ += (source.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  }
  const uint64_t size = std::max<uint64_t>(bytes_, 1);
  memory_ = {map_memory(size), Unmap{size}};
  for (size_t i = 0; i < view_.sources.size(); ++i)
    view_.sources[i].data = memory_.get() + offsets_[i];
}

size_t StateSnapshot::index_of(const std::string& name) const {
  const auto source =
      std::lower_bound(view_.sources.begin(), view_.sources.end(), name,
                       [](const H5Source& a, const std::string& b) { return a.name < b; });
  return static_cast<size_t>(source - view_.sources.begin());
}

std::span<std::byte> StateSnapshot::elements(const std::string& name,
                                             const ag::ElementRange& range) {
  const size_t i = index_of(name);
  const uint64_t size = size_of(view_.sources[i].type);
  return {memory_.get() + offsets_[i] + static_cast<uint64_t>(range.begin) * size,
          static_cast<uint64_t>(range.size()) * size};
}

void StateSnapshot::take(const StateRegistry& registry) {
  const std::vector<H5Source> live = registry.sources();
  if (live.size() != view_.sources.size())
    core::fail(ExitCode::kInternal, {.field = "state snapshot",
                                     .expected = std::to_string(view_.sources.size()) + " entries",
                                     .found = std::to_string(live.size())});
  view_.values = registry.values();
  for_each_entry(live, [&](size_t i) {
    if (live[i].data != nullptr)
      view_.sources[i].hash =
          copy_and_hash(live[i].data, memory_.get() + offsets_[i], live[i].bytes());
    else if (const DealtTensor& dealt = registry.dealt().at(live[i].name); dealt.own.numel() > 0)
      dealt.own.copy_to(elements(live[i].name, dealt.own_range()).data());
  });
}

void StateSnapshot::complete(const StateRegistry& registry) {
  if (registry.dealt().empty()) return;
  for_each_entry(view_.sources, [&](size_t i) {
    H5Source& source = view_.sources[i];
    if (registry.dealt().contains(source.name))
      source.hash = core::hash_hex({static_cast<const std::byte*>(source.data), source.bytes()});
  });
}

void gather_dealt(Comm& comm, const StateRegistry& registry, StateSnapshot* snapshot) {
  if (registry.dealt().empty()) return;
  const core::trace::Scope scope("gather_state");
  std::vector<Comm::Outgoing> outgoing;
  std::vector<Comm::Incoming> incoming;
  for (const auto& [name, dealt] : registry.dealt()) {
    if (comm.rank() != 0) append_outgoing(outgoing, bytes_of(dealt.own), 0);
    for (int rank = 1; comm.rank() == 0 && rank < comm.size(); ++rank)
      append_incoming(incoming, snapshot->elements(name, dealt.ranges[static_cast<size_t>(rank)]),
                      rank);
  }
  comm.exchange(outgoing, incoming);
}

}  // namespace trainer
