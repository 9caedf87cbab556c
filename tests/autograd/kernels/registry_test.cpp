// Levels of this machine, forced levels, threads, the banner line.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>

#include "autograd/kernels/kernels.h"
#include "core/env.h"

namespace ag {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

struct Outcome {
  int code;
  std::string output;
};

// Runs tests of this binary in a process of its own, whose level is forced: a process chooses once.
Outcome run_forced(const std::string& isa, const std::string& filter) {
  std::array<char, 4096> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  EXPECT_GT(length, 0);
  const std::string command =
      "MHA2MLA_ISA=" + isa + " '" + path.data() + "' --gtest_filter='" + filter + "' 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  Outcome outcome{-1, {}};
  std::array<char, 4096> buffer{};
  for (size_t n; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    outcome.output.append(buffer.data(), n);
  }
  const int status = ::pclose(pipe);
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  return outcome;
}

TEST(Registry, DescribesItself) {
  const std::string text = describe_backend();
  EXPECT_PRED2(contains, text, ("isa " + std::string(name_of(active_isa()))));
  EXPECT_PRED2(contains, text, "f32: OpenBLAS ");
  EXPECT_PRED2(contains, text,
               (active_isa() < Isa::avx512    ? "bf16: widened to f32"
                : active_isa() == Isa::avx512 ? "bf16: oneDNN"
                                              : "bf16: own kernels on AMX tiles"));
  if (!core::env().isa.empty()) {
    EXPECT_EQ(name_of(active_isa()), core::env().isa);
  }
  EXPECT_EQ(text.find('\n'), std::string::npos);
  RecordProperty("backend", text);
}

TEST(Registry, TableOfTheDeviceIsTheActiveOne) {
  EXPECT_EQ(&kernels(Device::cpu), &cpu_kernels(active_isa()));
}

TEST(Registry, SetsThreads) {
  const int before = threads();
  set_threads(3);
  EXPECT_EQ(threads(), 3);
  EXPECT_PRED2(contains, describe_backend(), "3 threads");
  set_threads(before);
}

TEST(ForcedIsa, EveryLowerLevelMultiplies) {
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::amx}) {
    if (isa > active_isa()) break;
    // oneDNN without AMX runs in no other test.
    const std::string products = isa == Isa::avx512 ? "Gemm.Bfloat16*" : "Gemm.Follows*";
    const Outcome outcome = run_forced(std::string(name_of(isa)), products + ":Registry.*");
    EXPECT_EQ(outcome.code, 0) << name_of(isa) << "\n" << outcome.output;
    EXPECT_PRED2(contains, outcome.output, "[  PASSED  ]");
  }
}

TEST(ForcedIsa, UnknownLevelIsRefused) {
  const Outcome outcome = run_forced("avx1024", "Registry.DescribesItself");
  EXPECT_NE(outcome.code, 0);
  EXPECT_PRED2(contains, outcome.output, "MHA2MLA_ISA: expected one of baseline");
  EXPECT_PRED2(contains, outcome.output, "'avx1024'");
}

}  // namespace
}  // namespace ag
