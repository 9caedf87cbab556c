// Run under mpirun by the scripts beside it. The first argument names what to do; the process fails
// through the same path as the program does.
//   tree SHARDS   sums adversarial values, checks them, prints "hash <32 digits>"
//   basics        every operation of Comm, in pieces of 3 elements
//   fail | throw  rank 1 fails alone while the others wait in a barrier
//   agree         the last rank fails alone, and the ranks agree on it
//   agree-all     all ranks fail with one message
//   agree-stopped all ranks are stopped, the last one fails as well
//   short         rank 1 sends less than rank 0 exchanges for
//   leave         all ranks leave with 75 without finalising
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <stdexcept>

#include "autograd/core/pool.h"
#include "core/hash.h"
#include "core/stop.h"
#include "trainer/ranks/comm.h"
#include "trainer/ranks/gradient_reduction.h"

namespace trainer {
namespace {

constexpr int64_t kElements = 1'200'007;  // above a group of parts of 4 ranks, no multiple of one

void require(bool condition, const std::string& what) {
  if (!condition)
    core::fail(core::ExitCode::kInternal, {.field = "check", .expected = what, .found = "not so"});
}

// Magnitudes from 2^-20 to 2^20 with both signs: sums cancel, and their order shows.
template <class T>
std::vector<T> shard_values(int64_t shard, int64_t step) {
  std::vector<T> values(kElements);
  for (int64_t i = 0; i < kElements; ++i) {
    uint64_t h = static_cast<uint64_t>((i * 64 + shard) * 8 + step) + 0x9E3779B97F4A7C15;
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9;
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB;
    h ^= h >> 31;
    const uint64_t sign = h & (uint64_t{1} << 63);
    const uint64_t exponent = 1023 - 20 + h % 41;
    values[static_cast<size_t>(i)] =
        static_cast<T>(std::bit_cast<double>(sign | exponent << 52 | (h << 8) >> 12));
  }
  return values;
}

template <class T>
std::vector<T> tree_oracle(int64_t first, int64_t count, int64_t step) {
  if (count == 1) return shard_values<T>(first, step);
  std::vector<T> left = tree_oracle<T>(first, count / 2, step);
  const std::vector<T> right = tree_oracle<T>(first + count / 2, count / 2, step);
  std::transform(left.begin(), left.end(), right.begin(), left.begin(), std::plus<>());
  return left;
}

template <class T>
std::vector<T> sequential_sum(int64_t shards, int64_t step) {
  std::vector<T> sum(kElements);
  for (int64_t j = 0; j < shards; ++j) {
    const std::vector<T> values = shard_values<T>(j, step);
    std::transform(sum.begin(), sum.end(), values.begin(), sum.begin(), std::plus<>());
  }
  return sum;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T>
void check_total(const std::vector<T>& total, int64_t shards, int64_t step) {
  require(same_bits(total, tree_oracle<T>(0, shards, step)), "the sum of the tree");
  if (shards > 2)
    require(!same_bits(total, sequential_sum<T>(shards, step)),
            "values whose sum depends on the order");
}

template <class T>
void check_gradients(const ShardTree& tree, core::Hasher& hasher) {
  GradientReduction reduction(tree, kElements, ag::dtype_of<T>());
  int64_t allocations = 0;
  for (int64_t step = 0; step < 4; ++step) {
    for (int64_t j = tree.range().begin; j < tree.range().end; ++j) {
      ag::Tensor& buffer = reduction.begin_shard(j);
      const std::vector<T> zeros = buffer.to_host<T>();
      require(std::all_of(zeros.begin(), zeros.end(), [](T x) { return x == 0; }), "zeros");
      buffer.copy_from(shard_values<T>(j, step).data());
      // From the third step on the sum begins while the last shard is open: in no order, with gaps.
      if (step >= 2 && j + 1 == tree.range().end)
        for (const GradientRange& range : {GradientRange{700'001, 1'200'000}, {5, 5}, {16, 90'000}})
          reduction.start_sum(range);
      reduction.end_shard(j);
    }
    const std::vector<T> total = reduction.finish().to_host<T>();
    if (tree.comm().rank() == 0) check_total(total, tree.plan().shards(), step);
    hasher.update(total.data(), total.size() * sizeof(T));
    const int64_t now = ag::Pool::statistics().os_allocations;
    require(step == 0 || now == allocations, "no allocation after the first step");
    allocations = now;
  }
  const int64_t live = ag::Pool::statistics().live_bytes;
  const int64_t buffer_bytes = kElements * static_cast<int64_t>(sizeof(T));
  int64_t others = 0;  // subtrees, of which two parts each may be on their way
  for (int rank = 0; rank < tree.comm().size(); ++rank)
    if (rank != tree.comm().rank())
      others += static_cast<int64_t>(tree.plan().subtrees(rank).size());
  require(live <= reduction.buffers() * (buffer_bytes + (int64_t{2} << 20)) +
                      2 * others * kGradientPartBytes,
          "no more buffers than planned, and parts of the others'");
}

void check_abandoned_step(const ShardTree& tree) {
  GradientReduction reduction(tree, 5, ag::DType::f64);
  for (int64_t step = 0; step < 2; ++step)
    for (int64_t j = tree.range().begin; j < tree.range().end; ++j) {
      const std::vector<double> ones(5, 1.0);
      reduction.begin_shard(j).copy_from(ones.data());
      if (step == 1 || j + 1 < tree.range().end) reduction.end_shard(j);
    }
  for (const double value : reduction.finish().to_host<double>())
    require(value == static_cast<double>(tree.plan().shards()),
            "a step that forgets the one before");
}

void check_order_errors(const ShardTree& tree) {
  const auto refused = [](auto&& call) {
    try {
      call();
    } catch (const core::Error& error) {
      return error.code() == core::ExitCode::kInternal;
    }
    return false;
  };
  GradientReduction reduction(tree, 5);
  const int64_t first = tree.range().begin;
  require(refused([&] { reduction.finish(); }), "no finish before the shards");
  require(refused([&] { reduction.end_shard(first); }), "no end before the beginning");
  require(refused([&] { reduction.begin_shard(first + 1); }), "no skipped shard");
  reduction.begin_shard(first);
  require(refused([&] { reduction.finish(); }), "no finish inside a shard");
  require(refused([&] { reduction.begin_shard(first + 1); }), "no shard inside a shard");
  if (tree.range().size() > 1)
    require(refused([&] { reduction.start_sum({0, 5}); }), "no sum before the last shard");
  require(refused([&] { GradientReduction(tree, 5, ag::DType::bf16); }), "no bf16 sums");
  require(refused([&] { tree_sum(tree, {}); }), "no sum of nothing");
}

void tree(Comm& comm, int64_t shards) {
  const ShardTree tree(comm, shards);
  core::Hasher hasher;
  check_gradients<float>(tree, hasher);
  check_gradients<double>(tree, hasher);
  check_abandoned_step(tree);
  check_order_errors(tree);

  std::vector<std::vector<double>> own;
  for (int64_t j = tree.range().begin; j < tree.range().end; ++j)
    own.push_back(shard_values<double>(j, 0));
  const std::vector<double> sums = tree_sum(tree, own);
  if (comm.rank() == 0) check_total(sums, shards, 0);
  hasher.update(sums.data(), sums.size() * sizeof(double));

  for (const std::string& hash : comm.gather(hasher.hex()))
    require(hash == hasher.hex(), "the same bits on all ranks");
  if (comm.rank() == 0) std::printf("hash %s\n", hasher.hex().c_str());
}

template <class T>
void check_ring(Comm& comm) {
  std::vector<T> token(10);
  std::iota(token.begin(), token.end(), static_cast<T>(comm.rank()));
  if (comm.size() > 1) {
    const int next = (comm.rank() + 1) % comm.size();
    const int previous = (comm.rank() + comm.size() - 1) % comm.size();
    std::vector<T> received(token.size());
    if (comm.rank() == 0) comm.send(token, next);
    comm.receive(received, previous);
    if (comm.rank() != 0) comm.send(token, next);
    for (size_t i = 0; i < received.size(); ++i)
      require(received[i] == static_cast<T>(previous) + static_cast<T>(i),
              "the neighbour's values");
  }
  comm.broadcast(std::span<T>(token), comm.size() - 1);
  require(token[9] == static_cast<T>(comm.size() - 1 + 9), "the root's values");
}

void basics(Comm& comm) {
  require(comm.thread_multiple(), "MPI_THREAD_MULTIPLE");
  require(comm.local_size() == comm.size() && comm.local_rank() == comm.rank(), "one node");
  check_ring<float>(comm);
  check_ring<double>(comm);
  const std::string text = comm.rank() == 0 ? std::string("twelve\0bytes", 12) : "other";
  require(comm.broadcast(text) == std::string("twelve\0bytes", 12), "rank 0's text");
  require(comm.broadcast(comm.rank() == 0 ? "" : "text").empty(), "rank 0's empty text");
  const int64_t n = comm.size();
  constexpr int64_t kLarge = int64_t{1} << 40;
  require(comm.sum(kLarge + comm.rank()) == n * kLarge + n * (n - 1) / 2, "the sum");
  require(comm.max(-5 - comm.rank()) == -5, "the maximum");
  const auto texts = comm.gather(std::string(static_cast<size_t>(comm.rank()), 'x'));
  require(texts.size() == (comm.rank() == 0 ? static_cast<size_t>(n) : 0), "gathered at rank 0");
  for (size_t r = 0; r < texts.size(); ++r) require(texts[r] == std::string(r, 'x'), "texts");
  comm.agree(std::nullopt);
  comm.run_agreed([] {});
  comm.barrier();
}

[[noreturn]] void fail_shard(const std::string& path) {
  core::fail(core::ExitCode::kBadData,
             {.path = path, .expected = "1000 tokens", .found = "999", .hint = "copy it again"});
}

void exchange_short(Comm& comm) {
  std::vector<std::byte> buffer(8);
  std::vector<Comm::Outgoing> outgoing;
  std::vector<Comm::Incoming> incoming;
  if (comm.rank() == 0) incoming.push_back({buffer, 1});
  if (comm.rank() == 1) outgoing.push_back({std::span(buffer).first(7), 0});
  comm.exchange(outgoing, incoming);
  comm.barrier();
}

void run(Comm& comm, const std::string& what, int64_t shards) {
  if (what == "tree") return tree(comm, shards);
  if (what == "basics") return basics(comm);
  if (what == "agree-all") return comm.run_agreed([] { fail_shard("shared.ds"); });
  if (what == "agree")
    return comm.run_agreed([&] {
      if (comm.rank() == comm.size() - 1) fail_shard("last.ds");
    });
  if (what == "agree-stopped")
    return comm.run_agreed([&] {
      if (comm.rank() == comm.size() - 1) fail_shard("last.ds");
      core::throw_stopped(core::kStopTerm);
    });
  if (what == "short") return exchange_short(comm);
  if (what == "leave") comm.leave(core::ExitCode::kPreempted);
  const int culprit = comm.size() > 1 ? 1 : 0;
  if (what == "fail" && comm.rank() == culprit) fail_shard("mine.ds");
  if (what == "throw" && comm.rank() == culprit) throw std::runtime_error("unforeseen");
  comm.barrier();
}

}  // namespace
}  // namespace trainer

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const int64_t shards = argc > 2 ? std::strtoll(argv[2], nullptr, 10) : 1;
  try {
    trainer::Comm comm(argc, argv, {.elements_per_call = what == "basics" ? 3 : 1 << 28});
    try {
      trainer::run(comm, what, shards);
      return 0;
    } catch (...) {
      return comm.report(std::current_exception());
    }
  } catch (const core::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
