// The command line: `mha2mla VERB ...`, and `mha2mla CONFIG.yaml` for `mha2mla train CONFIG.yaml`.
// Each verb has its own parser; this table is all that the program knows of its verbs.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace trainer {

struct Session;

using VerbAction = std::function<nlohmann::json(Session&)>;

struct Verb {
  const char* name;
  const char* group;  // Model, Data, Run or Inspect
  const char* purpose;
  const char* examples;  // two lines or more, as typed
  bool computes;         // takes --threads
  // Declares the verb's arguments; the action reads them once they are parsed.
  VerbAction (*declare)(CLI::App& app);
};

const std::vector<Verb>& verbs();

// All of main: parses, starts MPI, runs the verb, prints. Never throws; returns the exit code.
int run_program(int argc, char** argv);

}  // namespace trainer
