// The ranks of a run: all MPI of the program sits behind this class, and only comm.cpp sees mpi.h.
// Rules: one object for all ranks, made in main, and those that split() makes of it; only the main
// thread communicates (abort() alone may come from any thread); floats are never reduced by MPI,
// only moved, so that no bits depend on its choices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"

namespace trainer {

// An error on which all ranks agreed: each leaves with the same code, rank 0 prints the message.
class AgreedError : public core::Error {
 public:
  using core::Error::Error;
};

// What a handler caught, as an Error: bad_alloc is kOutOfMemory, other exceptions are kInternal.
core::Error to_error(const std::exception_ptr& error);

struct CommOptions {
  // Elements per MPI call, whose counts are 32-bit; larger buffers go in pieces.
  int64_t elements_per_call = int64_t{1} << 28;
};

class Comm {
 public:
  // Initialises MPI; without mpirun the process is rank 0 of 1. Signal handlers that must survive
  // are installed before and again after, as MPI installs its own.
  // Throws kBadConfig if SLURM started several tasks that do not see each other.
  Comm(int& argc, char**& argv, const CommOptions& options = {});
  // Finalises. While an exception unwinds a run of several ranks it aborts instead, because the
  // others would wait for ever.
  ~Comm();
  Comm(const Comm&) = delete;
  Comm& operator=(const Comm&) = delete;

  // Collective. The ranks that give the same `group`, in their order here: ranks and sizes are
  // those of the group then, but abort() and leave() end every rank of the program. Outlived by
  // this.
  std::unique_ptr<Comm> split(int group);

  int rank() const { return rank_; }
  int size() const { return size_; }
  // Rank among, and number of, the ranks of this node.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  // All of the program's ranks on this node, which share its cores.
  int node_size() const { return node_size_; }
  const std::string& host() const { return host_; }
  // True if abort() from another thread is covered by the MPI standard.
  bool thread_multiple() const { return thread_multiple_; }

  // Blocking and ordered per pair of ranks. A receive of another length than was sent is a bug and
  // ends the run.
  void send(std::span<const float> values, int to);
  void send(std::span<const double> values, int to);
  void receive(std::span<float> values, int from);
  void receive(std::span<double> values, int from);

  // Messages of one exchange in flight at once; between two ranks they match in their order here.
  // Returns when all have arrived. At most 2^31 - 1 bytes each. A message of another length than
  // its buffer is a bug and ends the run.
  struct Outgoing {
    std::span<const std::byte> bytes;
    int to;
  };
  struct Incoming {
    std::span<std::byte> bytes;
    int from;
  };
  void exchange(std::span<const Outgoing> outgoing, std::span<const Incoming> incoming);
  // The same in two halves: the buffers belong to the transfer until finish() returns. Several may
  // be on their way; the messages of two ranks match in the order of the calls.
  class Transfer;
  Transfer start_exchange(std::span<const Outgoing> outgoing, std::span<const Incoming> incoming);
  void finish(Transfer& transfer);

  // Collective; sizes agree on all ranks.
  void broadcast(std::span<std::byte> bytes, int root = 0);
  void broadcast(std::span<float> values, int root = 0);
  void broadcast(std::span<double> values, int root = 0);
  std::string broadcast(const std::string& text, int root = 0);  // root's text, on all ranks
  int64_t sum(int64_t value);
  int64_t max(int64_t value);
  uint64_t bit_or(uint64_t bits);
  void barrier();
  // The same for waits of minutes: sleeps, where MPI would keep a core busy.
  void barrier_asleep();
  // On rank 0 the texts of all ranks in order, elsewhere nothing. At most 1 MiB each.
  std::vector<std::string> gather(const std::string& text);

  // Collective: ends a phase that can fail on some ranks only. If any rank brings an error, all
  // throw AgreedError: the largest code, where kPreempted counts as the least; rank 0's message
  // first, then the other ranks' that differ, each once and prefixed with [rank r host]. Of ranks
  // that were merely stopped nothing is said beside an error.
  void agree(const std::optional<core::Error>& local);
  // Collective: runs `work`, which must not communicate, and agrees on what it threw.
  void run_agreed(const std::function<void()>& work);

  // The end of main's catch-all: prints the error and returns the exit code when every rank is
  // known to leave (one rank, or AgreedError); otherwise prints it with its rank and aborts all.
  // After a stop on request it leaves at once: mpirun may have been told to stop, too.
  int report(const std::exception_ptr& error);

  // Ends every rank within a second or two. The exit code is mpirun's exit code.
  [[noreturn]] void abort(core::ExitCode code);
  // Collective: leaves after all ranks got here, without MPI_Finalize, which hangs once mpirun has
  // been told to stop. For stops on request, after the checkpoint.
  [[noreturn]] void leave(core::ExitCode code);

 private:
  struct Group;  // the communicator of MPI

  Comm(const Comm& all, std::unique_ptr<Group> group);
  void find_places();

  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  bool thread_multiple_ = false;
  std::string host_;
  CommOptions options_;
  std::unique_ptr<Group> group_;
  int node_size_ = 1;
  bool is_part_ = false;  // made by split()
};

class Comm::Transfer {
 public:
  Transfer();
  ~Transfer();
  Transfer(Transfer&&) noexcept;
  Transfer& operator=(Transfer&&) noexcept;

 private:
  friend class Comm;
  struct State;
  std::unique_ptr<State> state_;
};

// "Open MPI v4.1.4"
std::string mpi_library();

// What is wrong with how the process was launched, given the number of ranks that MPI sees and the
// launcher's variables (null when unset).
std::optional<core::Fault> launch_fault(int size, const char* slurm_ntasks,
                                        const char* ompi_comm_world_size);

}  // namespace trainer
