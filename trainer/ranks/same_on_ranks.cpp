#include "trainer/ranks/same_on_ranks.h"

#include <sstream>

#include "core/hash.h"

namespace trainer {
namespace {

constexpr char kEnd[] = "(no such line)";

std::string next_line(std::istream& text) {
  std::string line;
  return std::getline(text >> std::ws, line) ? line : kEnd;
}

[[noreturn]] void fail_different(const std::string& first, const std::string& own,
                                 core::Fault fault) {
  fault.expected = first + ", that of rank 0";
  fault.found = own;
  core::fail(core::ExitCode::kBadConfig, fault);
}

}  // namespace

void require_same_on_ranks(Comm& comm, const std::string& value, core::Fault fault) {
  const std::string first = comm.broadcast(value);
  comm.run_agreed([&] {
    if (value != first) fail_different(first, value, fault);
  });
}

void require_same_text_on_ranks(Comm& comm, const std::string& text, core::Fault fault) {
  const std::string first = comm.broadcast(text);
  comm.run_agreed([&] {
    if (text == first) return;
    std::istringstream of_first(first), own(text);
    std::string a, b;
    do {
      a = next_line(of_first);
      b = next_line(own);
    } while (a == b && a != kEnd);
    fail_different(a, b, fault);
  });
}

void require_same_program(Comm& comm) {
  std::string program;
  comm.run_agreed([&] { program = core::hash_file_hex("/proc/self/exe"); });
  require_same_on_ranks(
      comm, program,
      {.field = "hash of the program", .hint = "start all ranks with the same mha2mla"});
}

}  // namespace trainer
