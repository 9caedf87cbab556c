#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "autograd/kernels/kernels.h"
#include "core/failpoint.h"
#include "trainer/files/h5.h"
#include "trainer/files/manifest.h"
#include "trainer/ranks/affinity.h"
#include "trainer/ranks/comm.h"
#include "trainer/step/memory.h"
#include "trainer/verbs/report.h"
#include "trainer/verbs/verbs.h"

extern char** environ;

namespace trainer {
namespace {

std::string build_type() {
#ifdef NDEBUG
  std::string type = "release";
#else
  std::string type = "debug";
#endif
#ifdef __SANITIZE_ADDRESS__
  type += " with address sanitizer";
#endif
#ifdef __SANITIZE_THREAD__
  type += " with thread sanitizer";
#endif
  return type;
}

std::string compiler() { return "g++ " __VERSION__; }

std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name") && line.find(": ") != std::string::npos)
      return line.substr(line.find(": ") + 2);
  return "unknown";
}

// Variables that change how this program or a library under it works.
std::map<std::string, std::string> relevant_environment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    for (const char* prefix : {"MHA2MLA_", "OMP_", "GOMP_", "OPENBLAS_", "DNNL_", "ONEDNN_",
                               "OMPI_MCA_btl", "OMPI_MCA_pml", "OMPI_MCA_coll", "OMPI_MCA_rmaps",
                               "HDF5_", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK"})
      if (equals != std::string_view::npos && text.starts_with(prefix))
        found.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return found;
}

}  // namespace

std::string version_line() {
  return fmt::format("mha2mla {} ({}, {}, isa {})", kProgramVersion, build_type(), compiler(),
                     ag::name_of(ag::active_isa()));
}

nlohmann::json run_env(Session& session) {
  const Affinity affinity = read_affinity();
  const ThreadPlan plan = plan_threads(affinity, session.comm.local_size(), {});
  Report report;
  report["program"] = fmt::format("mha2mla {}", kProgramVersion);
  report["build"] = build_type();
  report["compiler"] = compiler();
  report["mpi"] = mpi_library();
  report["hdf5"] = h5_library();
  report["backend"] = ag::describe_backend();
  report["cpu"] = processor();
  report["isa"] = ag::name_of(ag::active_isa());
  report["host"] = session.comm.host();
  report["node_cores"] = affinity.node_cores;
  report["allowed_cores"] = format_cores(affinity.allowed);
  report["threads"] = plan.threads;
  report["available_memory_bytes"] = available_memory_bytes();
  report["environment"] = relevant_environment();
  report["failpoints"] = core::kFailpointNames;
  if (!plan.warning.empty()) report["warning"] = plan.warning;
  if (!session.json) session.say(format_report(report));
  return report;
}

}  // namespace trainer
