#include "trainer/ranks/comm.h"

#include <mpi.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <system_error>
#include <thread>

#include "core/trace.h"

#if defined(__SANITIZE_ADDRESS__)
// Open MPI leaves behind what its plug-ins allocated, which by then are unloaded and have no name
// to tell their leaks by. So leaks are looked for in processes that never started it.
extern "C" int __lsan_is_turned_off() {
  int started = 0;
  MPI_Initialized(&started);
  return started;
}
#endif

namespace trainer {
namespace {

constexpr int kTag = 1;
constexpr size_t kMaxGatheredBytes = size_t{1} << 20;

// Calls f(first, count) for the pieces of [0, elements) that fit into one MPI call.
template <class F>
void for_each_piece(size_t elements, int64_t elements_per_call, F&& f) {
  const auto limit = static_cast<size_t>(elements_per_call);
  for (size_t first = 0; first < elements; first += limit)
    f(first, static_cast<int>(std::min(limit, elements - first)));
}

void print_line(const std::string& line) {
  std::fflush(stdout);
  std::fputs((line + "\n").c_str(), stderr);
  std::fflush(stderr);
}

std::string rank_prefix(int rank, const std::string& host) {
  return "[rank " + std::to_string(rank) + " " + host + "] ";
}

// Called by MPI for any failed call. MPI does not promise a usable state afterwards.
void on_mpi_error(MPI_Comm*, int* code, ...) {
  char text[MPI_MAX_ERROR_STRING] = "";
  char host[MPI_MAX_PROCESSOR_NAME] = "";
  int length = 0, rank = 0;
  MPI_Error_string(*code, text, &length);
  MPI_Get_processor_name(host, &length);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  print_line(rank_prefix(rank, host) +
             core::format_fault({.field = "mpi",
                                 .found = text,
                                 .hint = "look for the first error of another rank above"}));
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(core::ExitCode::kInternal));
}

int64_t reduced(int64_t value, MPI_Op operation, MPI_Comm group) {
  int64_t result = 0;
  MPI_Allreduce(&value, &result, 1, MPI_INT64_T, operation, group);
  return result;
}

// A longer message than expected is an error of MPI's own.
void require_count(const MPI_Status& status, int count, MPI_Datatype type, int from) {
  int received = 0;
  MPI_Get_count(&status, type, &received);
  if (received != count)
    core::fail(core::ExitCode::kInternal, {.field = "message of rank " + std::to_string(from),
                                           .expected = std::to_string(count) + " elements",
                                           .found = std::to_string(received)});
}

void receive_piece(void* values, int count, MPI_Datatype type, int from, MPI_Comm group) {
  MPI_Status status;
  MPI_Recv(values, count, type, from, kTag, group, &status);
  require_count(status, count, type, from);
}

core::trace::Description describe(std::span<const Comm::Outgoing> outgoing,
                                  std::span<const Comm::Incoming> incoming) {
  size_t bytes = 0;
  for (const Comm::Outgoing& m : outgoing) bytes += m.bytes.size();
  for (const Comm::Incoming& m : incoming) bytes += m.bytes.size();
  return {"exchange", "program", {.bytes = static_cast<double>(bytes)}};
}

// The larger prevails. Preempted is the least: what is wrong must not pass for a clean stop.
int64_t severity(core::ExitCode code) {
  return code == core::ExitCode::kPreempted ? 1 : static_cast<int64_t>(code);
}

}  // namespace

core::Error to_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const core::Error& e) {
    return e;
  } catch (const std::bad_alloc&) {
    return {core::ExitCode::kOutOfMemory, core::Fault{.found = "out of memory"}};
  } catch (const std::system_error& e) {
    if (e.code() != std::errc::resource_unavailable_try_again)
      return {core::ExitCode::kInternal, core::Fault{.found = e.what()}};
    return {core::ExitCode::kOsLimit,
            core::Fault{
                .field = "new thread", .found = e.what(), .hint = "raise ulimit -u or ulimit -v"}};
  } catch (const std::exception& e) {
    return {core::ExitCode::kInternal, core::Fault{.found = e.what()}};
  } catch (...) {
    return {core::ExitCode::kInternal, core::Fault{.found = "an exception of unknown type"}};
  }
}

std::optional<core::Fault> launch_fault(int size, const char* slurm_ntasks,
                                        const char* ompi_comm_world_size) {
  if (size > 1 || slurm_ntasks == nullptr || ompi_comm_world_size != nullptr) return std::nullopt;
  if (std::strtol(slurm_ntasks, nullptr, 10) <= 1) return std::nullopt;
  return core::Fault{.field = "SLURM_NTASKS",
                     .expected = std::string(slurm_ntasks) + " ranks that see each other",
                     .found = "1 rank per process",
                     .hint = "start with srun --mpi=pmix or mpirun (mpirun -np 1 for one rank)"};
}

namespace {

// A rank whose launcher was killed has lost its peers and its exit code, and would hold the run's
// lock until MPI notices, which a rank that is stopped or busy may not do for long.
void end_with_launcher() {
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
}

}  // namespace

struct Comm::Group {
  MPI_Comm mpi = MPI_COMM_WORLD;
};

Comm::Comm(int& argc, char**& argv, const CommOptions& options) : options_(options) {
  end_with_launcher();
  if (options_.elements_per_call < 1 ||
      options_.elements_per_call > std::numeric_limits<int>::max())
    core::fail(core::ExitCode::kInternal, {.field = "elements_per_call",
                                           .expected = "1 to 2^31 - 1",
                                           .found = std::to_string(options_.elements_per_call)});
  int provided = MPI_THREAD_SINGLE;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  thread_multiple_ = provided == MPI_THREAD_MULTIPLE;

  MPI_Errhandler handler = MPI_ERRHANDLER_NULL;
  MPI_Comm_create_errhandler(on_mpi_error, &handler);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, handler);
  MPI_Errhandler_free(&handler);

  group_ = std::make_unique<Group>();
  find_places();
  node_size_ = local_size_;
  char host[MPI_MAX_PROCESSOR_NAME] = "";
  int length = 0;
  MPI_Get_processor_name(host, &length);
  host_.assign(host, static_cast<size_t>(length));

  const auto fault =
      launch_fault(size_, std::getenv("SLURM_NTASKS"), std::getenv("OMPI_COMM_WORLD_SIZE"));
  if (fault) {
    MPI_Finalize();  // The destructor of an object that was never complete does not run.
    core::fail(core::ExitCode::kBadConfig, *fault);
  }
}

Comm::Comm(const Comm& all, std::unique_ptr<Group> group)
    : thread_multiple_(all.thread_multiple_),
      host_(all.host_),
      options_(all.options_),
      group_(std::move(group)),
      node_size_(all.node_size_),
      is_part_(true) {
  find_places();
}

void Comm::find_places() {
  MPI_Comm_rank(group_->mpi, &rank_);
  MPI_Comm_size(group_->mpi, &size_);
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm_split_type(group_->mpi, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node);
  MPI_Comm_rank(node, &local_rank_);
  MPI_Comm_size(node, &local_size_);
  MPI_Comm_free(&node);
}

Comm::~Comm() {
  if (std::uncaught_exceptions() > 0 && size_ > 1) abort(core::ExitCode::kInternal);
  if (is_part_)
    MPI_Comm_free(&group_->mpi);
  else
    MPI_Finalize();
}

std::unique_ptr<Comm> Comm::split(int group) {
  auto part = std::make_unique<Group>();
  MPI_Comm_split(group_->mpi, group, rank_, &part->mpi);
  return std::unique_ptr<Comm>(new Comm(*this, std::move(part)));
}

void Comm::send(std::span<const float> values, int to) {
  for_each_piece(values.size(), options_.elements_per_call, [&](size_t first, int count) {
    MPI_Send(values.data() + first, count, MPI_FLOAT, to, kTag, group_->mpi);
  });
}

void Comm::send(std::span<const double> values, int to) {
  for_each_piece(values.size(), options_.elements_per_call, [&](size_t first, int count) {
    MPI_Send(values.data() + first, count, MPI_DOUBLE, to, kTag, group_->mpi);
  });
}

void Comm::receive(std::span<float> values, int from) {
  for_each_piece(values.size(), options_.elements_per_call, [&](size_t first, int count) {
    receive_piece(values.data() + first, count, MPI_FLOAT, from, group_->mpi);
  });
}

void Comm::receive(std::span<double> values, int from) {
  for_each_piece(values.size(), options_.elements_per_call, [&](size_t first, int count) {
    receive_piece(values.data() + first, count, MPI_DOUBLE, from, group_->mpi);
  });
}

struct Comm::Transfer::State {
  struct Expected {
    int bytes, from;
  };
  std::vector<MPI_Request> requests;  // the incoming ones first
  std::vector<Expected> expected;
  core::trace::Description description;
};

Comm::Transfer::Transfer() = default;
Comm::Transfer::~Transfer() = default;
Comm::Transfer::Transfer(Transfer&&) noexcept = default;
Comm::Transfer& Comm::Transfer::operator=(Transfer&&) noexcept = default;

Comm::Transfer Comm::start_exchange(std::span<const Outgoing> outgoing,
                                    std::span<const Incoming> incoming) {
  Transfer transfer;
  transfer.state_ = std::make_unique<Transfer::State>();
  Transfer::State& state = *transfer.state_;
  state.description = describe(outgoing, incoming);
  state.requests.reserve(outgoing.size() + incoming.size());
  for (const Incoming& m : incoming) {
    state.expected.push_back({static_cast<int>(m.bytes.size()), m.from});
    MPI_Irecv(m.bytes.data(), static_cast<int>(m.bytes.size()), MPI_BYTE, m.from, kTag, group_->mpi,
              &state.requests.emplace_back());
  }
  for (const Outgoing& m : outgoing)
    MPI_Isend(m.bytes.data(), static_cast<int>(m.bytes.size()), MPI_BYTE, m.to, kTag, group_->mpi,
              &state.requests.emplace_back());
  return transfer;
}

void Comm::finish(Transfer& transfer) {
  Transfer::State& state = *transfer.state_;
  const core::trace::Scope scope(state.description);
  std::vector<MPI_Status> statuses(state.requests.size());
  MPI_Waitall(static_cast<int>(state.requests.size()), state.requests.data(), statuses.data());
  for (size_t i = 0; i < state.expected.size(); ++i)
    require_count(statuses[i], state.expected[i].bytes, MPI_BYTE, state.expected[i].from);
  transfer.state_.reset();
}

void Comm::exchange(std::span<const Outgoing> outgoing, std::span<const Incoming> incoming) {
  Transfer transfer = start_exchange(outgoing, incoming);
  finish(transfer);
}

void Comm::broadcast(std::span<std::byte> bytes, int root) {
  for_each_piece(bytes.size(), options_.elements_per_call, [&](size_t first, int count) {
    MPI_Bcast(bytes.data() + first, count, MPI_BYTE, root, group_->mpi);
  });
}

void Comm::broadcast(std::span<float> values, int root) {
  broadcast(std::as_writable_bytes(values), root);
}

void Comm::broadcast(std::span<double> values, int root) {
  broadcast(std::as_writable_bytes(values), root);
}

std::string Comm::broadcast(const std::string& text, int root) {
  auto length = static_cast<uint64_t>(text.size());
  MPI_Bcast(&length, 1, MPI_UINT64_T, root, group_->mpi);
  std::string result = text;
  result.resize(length);
  broadcast(std::as_writable_bytes(std::span<char>(result)), root);
  return result;
}

int64_t Comm::sum(int64_t value) { return reduced(value, MPI_SUM, group_->mpi); }
int64_t Comm::max(int64_t value) { return reduced(value, MPI_MAX, group_->mpi); }

uint64_t Comm::bit_or(uint64_t bits) {
  if (size_ > 1) MPI_Allreduce(MPI_IN_PLACE, &bits, 1, MPI_UINT64_T, MPI_BOR, group_->mpi);
  return bits;
}

void Comm::barrier() { MPI_Barrier(group_->mpi); }

void Comm::barrier_asleep() {
  MPI_Request request;
  MPI_Ibarrier(group_->mpi, &request);
  for (int done = 0;;) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (done != 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::vector<std::string> Comm::gather(const std::string& text) {
  // Cut rather than refused: this carries messages, and a refusal on one rank alone would hang.
  const auto length = static_cast<int>(std::min(text.size(), kMaxGatheredBytes));
  std::vector<int> lengths(static_cast<size_t>(size_));
  MPI_Gather(&length, 1, MPI_INT, lengths.data(), 1, MPI_INT, 0, group_->mpi);
  if (rank_ != 0) {
    MPI_Send(text.data(), length, MPI_BYTE, 0, kTag, group_->mpi);
    return {};
  }
  std::vector<std::string> texts{text.substr(0, static_cast<size_t>(length))};
  for (int r = 1; r < size_; ++r) {
    const int expected = lengths[static_cast<size_t>(r)];
    std::string& part = texts.emplace_back(static_cast<size_t>(expected), '\0');
    receive_piece(part.data(), expected, MPI_BYTE, r, group_->mpi);
  }
  return texts;
}

void Comm::agree(const std::optional<core::Error>& local) {
  const int64_t worst = max(local ? severity(local->code()) : 0);
  if (worst == 0) return;
  const bool only_stopped = worst == severity(core::ExitCode::kPreempted);
  const auto code = only_stopped ? core::ExitCode::kPreempted : static_cast<core::ExitCode>(worst);
  const bool speaks = local && (only_stopped || local->code() != core::ExitCode::kPreempted);
  const auto messages = gather(speaks ? local->what() : "");
  const auto hosts = gather(host_);
  std::string text;
  for (size_t r = 0; r < messages.size(); ++r) {
    const auto here = messages.begin() + static_cast<std::ptrdiff_t>(r);
    if (here->empty() || std::find(messages.begin(), here, *here) != here) continue;
    if (!text.empty()) text += "\n";
    text += (r == 0 ? "" : rank_prefix(static_cast<int>(r), hosts[r])) + *here;
  }
  throw AgreedError(code, broadcast(text));
}

void Comm::run_agreed(const std::function<void()>& work) {
  std::optional<core::Error> error;
  try {
    work();
  } catch (...) {
    error = to_error(std::current_exception());
  }
  agree(error);
}

int Comm::report(const std::exception_ptr& error) {
  bool agreed = false;
  try {
    std::rethrow_exception(error);
  } catch (const AgreedError&) {
    agreed = true;
  } catch (...) {
    agreed = false;
  }
  const core::Error e = to_error(error);
  if (!agreed && size_ > 1) {
    print_line(rank_prefix(rank_, host_) + e.what());
    abort(e.code());
  }
  if (rank_ == 0) print_line(e.what());
  if (agreed && e.code() == core::ExitCode::kPreempted) leave(e.code());
  return static_cast<int>(e.code());
}

std::string mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string version(text, static_cast<size_t>(length));
  return version.substr(0, version.find(','));
}

void Comm::abort(core::ExitCode code) {
  std::fflush(nullptr);
  int all = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &all);
  if (all > 1) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  ::_exit(static_cast<int>(code));
}

void Comm::leave(core::ExitCode code) {
  std::fflush(nullptr);
  MPI_Barrier(MPI_COMM_WORLD);
  ::_exit(static_cast<int>(code));
}

}  // namespace trainer
