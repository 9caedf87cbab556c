#include "trainer/checkpoint/replica_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/hash.h"
#include "trainer/ranks/parallel_entries.h"

namespace trainer {
namespace {

constexpr char kValues[] = "values";  // in place of a name, of all values together

// The rank whose state most ranks have; 0 when there is no such majority.
int reference_rank(const std::vector<std::string>& digests) {
  std::map<std::string, size_t> votes;
  for (const std::string& digest : digests) ++votes[digest];
  for (size_t r = 0; r < digests.size(); ++r)
    if (2 * votes.at(digests[r]) > digests.size()) return static_cast<int>(r);
  return 0;
}

// The hashes one after the other: equal in length and order on all ranks of one program.
std::string joined(const StateDigest& digest) {
  return fmt::format("{}", fmt::join(digest.hashes, ""));
}

// Where `own` first differs from the reference rank's hashes; empty: nowhere.
std::string first_difference(const std::string& reference, const StateDigest& own) {
  const std::string hashes = joined(own);
  if (hashes == reference) return {};
  const auto at = std::mismatch(reference.begin(), reference.end(), hashes.begin(), hashes.end());
  const size_t index = static_cast<size_t>(at.second - hashes.begin()) / own.hashes.front().size();
  return index < own.names.size() ? own.names[index] : "the number of entries";
}

std::string describe(const std::vector<std::string>& differences,
                     const std::vector<std::string>& hosts) {
  std::string text;
  for (size_t r = 0; r < differences.size(); ++r)
    if (!differences[r].empty())
      text += fmt::format("{}rank {} ({}) differs first in {}", text.empty() ? "" : ", ", r,
                          hosts[r], differences[r]);
  return text;
}

}  // namespace

std::string StateDigest::combined() const { return core::hash_hex(joined(*this)); }

StateDigest digest_entries(const StateRegistry& registry) {
  const std::vector<H5Source> sources = registry.replicated();
  StateDigest digest;
  for (const H5Source& source : sources) digest.names.push_back(source.name);
  digest.hashes.resize(sources.size());
  for_each_entry(sources, [&](size_t i) {
    digest.hashes[i] =
        core::hash_hex({static_cast<const std::byte*>(sources[i].data), sources[i].bytes()});
  });
  digest.names.emplace_back(kValues);
  digest.hashes.push_back(core::hash_hex(registry.values().dump()));
  return digest;
}

std::string state_digest(const StateRegistry& registry) {
  return digest_entries(registry).combined();
}

void require_equal_replicas(Comm& comm, const StateRegistry& registry) {
  StateDigest digest;
  comm.run_agreed([&] { digest = digest_entries(registry); });
  const std::vector<std::string> digests = comm.gather(digest.combined());
  const bool differ = std::any_of(digests.begin(), digests.end(),
                                  [&](const std::string& d) { return d != digests.front(); });
  // Bit 62 says that they differ; rank 0 alone knows, and adds nothing but the reference.
  constexpr int64_t kDiffer = int64_t{1} << 62;
  const int64_t verdict = comm.max(differ ? kDiffer + reference_rank(digests) : 0);
  if (verdict < kDiffer) return;
  const auto reference = static_cast<int>(verdict - kDiffer);
  const std::string difference =
      first_difference(comm.broadcast(joined(digest), reference), digest);
  const std::vector<std::string> differences = comm.gather(difference);
  const std::vector<std::string> hosts = comm.gather(comm.host());
  const auto differing = static_cast<int>(std::count_if(
      differences.begin(), differences.end(), [](const std::string& d) { return !d.empty(); }));
  const std::string found =
      comm.broadcast(describe(differences, hosts) +
                     (2 * (comm.size() - differing) > comm.size()
                          ? " from most ranks"
                          : fmt::format(" from rank {}, no state is that of most", reference)));
  throw AgreedError(core::ExitCode::kReplicasDiffer,
                    core::Fault{.field = "replicas",
                                .expected = "the same state on all ranks",
                                .found = found,
                                .hint = "start again from the last checkpoint; if it comes back, "
                                        "test the memory and processor of the host that is named"});
}

}  // namespace trainer
