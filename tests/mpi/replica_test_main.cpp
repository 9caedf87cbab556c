// Run under mpirun by run_comm_test.cmake: every rank builds the same state, then
//   replica_test equal          nothing else: the ranks agree that it is equal
//   replica_test flip RANK NAME one bit of NAME flips on RANK
//   replica_test count RANK     a counter of RANK is one ahead
//   replica_test ACTION RANK    the loss is infinite on RANK alone, checkpoints.on_nan is ACTION
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "core/error.h"
#include "trainer/checkpoint/replica_check.h"
#include "trainer/ranks/comm.h"
#include "trainer/step/step_guard.h"

namespace trainer {
namespace {

// Of different sizes, so that the order of hashing is not the order of names.
void add_tensors(StateRegistry& registry) {
  for (int64_t i = 0; i < 9; ++i) {
    std::vector<float> values(static_cast<size_t>(1 + 40'000 * (i % 4)));
    for (size_t k = 0; k < values.size(); ++k)
      values[k] = static_cast<float>(k) * 0.25F + static_cast<float>(i);
    registry.add_tensor(
        "tensor" + std::to_string(i),
        ag::Tensor::from_host<float>({static_cast<int64_t>(values.size())}, values));
  }
  registry.add_constant("constant", {3}, {1, 2, 3});
}

void flip_bit(const StateRegistry& registry, const std::string& name) {
  for (const H5Source& source : registry.sources())
    if (source.name == name) {
      auto* bytes = static_cast<unsigned char*>(const_cast<void*>(source.data));
      bytes[source.bytes() - 1] ^= 1;
      return;
    }
  core::fail(core::ExitCode::kUsage, {.field = "NAME", .expected = "a tensor", .found = name});
}

// What came of it, or AgreedError.
void judge(Comm& comm, const std::string& action, int culprit) {
  CheckpointsConfig config;
  config.on_nan = action;
  StepGuard guard(config);
  const bool bad = comm.rank() == culprit || culprit >= comm.size();
  const StepGuard::Judgement judgement =
      guard.judge({.step = 3,
                   .loss = bad ? std::numeric_limits<double>::infinity() : 4.5,
                   .gradient_norm = 1,
                   .nonfinite = [] { return std::string("loss"); }},
                  comm);
  if (comm.rank() == 0) std::printf("outcome %d\n", static_cast<int>(judgement.outcome));
}

void run(Comm& comm, const std::string& what, int culprit, const std::string& name) {
  if (what == "stop" || what == "skip" || what == "rollback") return judge(comm, what, culprit);
  StateRegistry registry;
  add_tensors(registry);
  int64_t counter = 7;
  registry.add_value(
      "counter", [&] { return nlohmann::json(counter); },
      [&](const nlohmann::json& value) { counter = value.get<int64_t>(); });
  require_equal_replicas(comm, registry);
  const std::string before = state_digest(registry);
  if (comm.rank() == culprit && what == "flip") flip_bit(registry, name);
  if (comm.rank() == culprit && what == "count") ++counter;
  if ((before == state_digest(registry)) == (comm.rank() == culprit && what != "equal"))
    core::fail(core::ExitCode::kInternal, {.field = "digest", .expected = "to show the change"});
  require_equal_replicas(comm, registry);
  if (comm.rank() == 0) std::printf("equal %s\n", before.c_str());
}

}  // namespace
}  // namespace trainer

int main(int argc, char** argv) {
  trainer::Comm comm(argc, argv);
  try {
    trainer::run(comm, argc > 1 ? argv[1] : "equal", argc > 2 ? std::atoi(argv[2]) : -1,
                 argc > 3 ? argv[3] : "");
    return 0;
  } catch (...) {
    return comm.report(std::current_exception());
  }
}
