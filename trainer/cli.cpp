#include "trainer/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "autograd/kernels/kernels.h"
#include "core/error.h"
#include "core/failpoint.h"
#include "core/trace_file.h"
#include "trainer/config/did_you_mean.h"
#include "trainer/ranks/affinity.h"
#include "trainer/ranks/comm.h"
#include "trainer/ranks/process_limits.h"
#include "trainer/ranks/same_on_ranks.h"
#include "trainer/run/stop_requests.h"
#include "trainer/verbs/verbs.h"

namespace trainer {
namespace {

using core::ExitCode;
using core::Fault;

constexpr char kProgram[] = "mha2mla";

// What the arguments ask for: a text to print, or a verb to run.
struct Request {
  std::string text = {};
  const Verb* verb = nullptr;
  VerbAction action = {};
  bool json = false;
  std::optional<int> threads = {};
};

[[noreturn]] void fail_usage(const std::string& command, const Fault& fault) {
  Fault usage = fault;
  usage.path = command;
  if (!usage.hint.empty()) usage.hint += "; ";
  usage.hint += "see " + command + " --help";
  core::fail(ExitCode::kUsage, usage);
}

// "--out PATH (required)   what it is (default: x)"
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(34); }
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text = option->get_type_name().empty() ? "" : " " + option->get_type_name();
    if (option->get_expected_max() > 1 && option->get_positional()) text += " ...";
    return option->get_required() ? text + " (required)" : text;
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string value = option->get_default_str();
    const bool shown = !option->get_required() && option->get_type_size() > 0 && !value.empty() &&
                       value != "[]" && value != "\"\"";
    return option->get_description() + (shown ? " (default: " + value + ")" : "");
  }
};

std::string program_help() {
  std::string text =
      "Converts Llama-style models to multi-head latent attention (MLA) and fine-tunes them.\n\n"
      "Usage: mha2mla VERB [OPTIONS]\n"
      "       mha2mla CONFIG.yaml [key=value ...]      the same as mha2mla train CONFIG.yaml\n";
  std::string group;
  for (const Verb& verb : verbs()) {
    if (group != verb.group) text += fmt::format("\n{}\n", group = verb.group);
    text += fmt::format("  {:<10} {}\n", verb.name, verb.purpose);
  }
  text +=
      "\nMODEL is a Hugging Face folder, a .gguf file, a native model folder, a checkpoint,\n"
      "or a run folder (its newest valid checkpoint). With --json a verb prints one JSON\n"
      "object on stdout, and all else goes to stderr.\n"
      "\nExamples\n"
      "  mha2mla train configs/tiny.yaml\n"
      "  mpirun -np 2 --bind-to none mha2mla configs/tiny.yaml tokens.train_steps=100\n"
      "  mha2mla convert --help                        options, units, defaults, examples\n"
      "\nExit codes\n"
      "  0 done | 64 usage | 65 bad data | 66 missing input | 70 bug | 73 run folder in use\n"
      "  74 disk | 75 stopped on request | 76 no valid checkpoint | 77 permission\n"
      "  78 configuration | 79 not a number | 80 out of memory | 86 hang | 87 ranks differ\n";
  return text;
}

std::vector<std::string> verb_names() {
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) names.emplace_back(verb.name);
  return names;
}

bool is_config_name(const std::string& word) {
  return word.ends_with(".yaml") || word.ends_with(".yml");
}

const Verb& find_verb(const std::string& word) {
  const std::string name = is_config_name(word) ? "train" : word;
  for (const Verb& verb : verbs())
    if (name == verb.name) return verb;
  const bool flag = word.starts_with("-");
  std::vector<std::string> known = verb_names();
  if (flag) known = {"--help", "--version"};
  fail_usage(kProgram, {.field = flag ? "option" : "verb",
                        .expected = fmt::format("{}", fmt::join(known, ", ")),
                        .found = "\"" + word + "\"",
                        .hint = did_you_mean(word, known)});
}

// An option that the verb does not have is a better message than what it leads to.
void check_leftovers(const CLI::App& app) {
  const std::vector<std::string> rest = app.remaining();
  if (rest.empty()) return;
  const std::string word = rest.front().substr(0, rest.front().find('='));
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  const bool flag = word.starts_with("-");
  fail_usage(app.get_name(), {.field = flag ? word : "argument",
                              .found = flag ? "unknown option" : "superfluous \"" + word + "\"",
                              .hint = flag ? did_you_mean(word, names) : std::string()});
}

void parse_arguments(CLI::App& app, std::vector<std::string> arguments) {
  app.allow_extras();
  std::reverse(arguments.begin(), arguments.end());  // the order CLI11 wants
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    throw;
  } catch (const CLI::ParseError& error) {
    check_leftovers(app);
    fail_usage(app.get_name(), {.found = error.what()});
  }
  check_leftovers(app);
}

Request parse_verb(const Verb& verb, const std::vector<std::string>& arguments) {
  CLI::App app(verb.purpose, fmt::format("{} {}", kProgram, verb.name));
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_help_flag("-h,--help", "print this help");
  app.footer(fmt::format("Examples\n{}", verb.examples));
  app.option_defaults()->always_capture_default();
  Request request{.text = {}, .verb = &verb, .action = verb.declare(app)};
  app.add_flag("--json", request.json, "print one JSON object on stdout, all else on stderr");
  int threads = 0;
  CLI::Option* threads_option = nullptr;
  if (verb.computes)
    threads_option = app.add_option("--threads", threads, "threads (default: the allowed cores)")
                         ->default_str("")
                         ->type_name("N")
                         ->check(CLI::Range(1, 1024).description(""));
  try {
    parse_arguments(app, arguments);
  } catch (const CLI::CallForHelp&) {
    request.text = app.help();
    request.action = nullptr;
    return request;
  }
  if (threads_option != nullptr && threads_option->count() > 0) request.threads = threads;
  return request;
}

Request parse(const std::vector<std::string>& words) {
  if (words.empty())
    fail_usage(kProgram, {.field = "verb",
                          .expected = fmt::format("{}", fmt::join(verb_names(), ", ")),
                          .found = "nothing"});
  const std::string& first = words.front();
  if (first == "--help" || first == "-h" || first == "help") return {.text = program_help()};
  if (first == "--version") return {.text = version_line() + "\n"};
  const Verb& verb = find_verb(first);
  const bool config_first = is_config_name(first);
  return parse_verb(verb, {words.begin() + (config_first ? 0 : 1), words.end()});
}

void print(const std::string& text) {
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (std::fflush(stdout) != 0 || !written) core::fail_errno("write", "standard output", errno);
}

void run(const Request& request, Comm& comm) {
  require_same_on_ranks(
      comm, request.action == nullptr ? "--help" : request.verb->name,
      {.path = kProgram, .field = "verb", .hint = "start all ranks with the same arguments"});
  if (request.action == nullptr) {
    if (comm.rank() == 0) print(request.text);
    return;
  }
  const std::string verb = request.verb->name;
  const bool trains = verb == "train" || verb == "sweep";  // on all ranks
  comm.run_agreed([&] {
    if (comm.size() > 1 && !trains)
      fail_usage(fmt::format("{} {}", kProgram, verb),
                 {.field = "ranks",
                  .expected = "1",
                  .found = std::to_string(comm.size()),
                  .hint = "only train and sweep run on several ranks: start it without mpirun"});
    // A run deals them anew, as its configuration wants them.
    ag::set_threads(plan_threads(read_affinity(), comm.local_size(), request.threads).threads);
  });
  Session session{.comm = comm, .json = request.json};
  const nlohmann::json result = request.action(session);
  if (request.json && comm.rank() == 0)
    print(result.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void finish_trace(int rank) {
  if (const uint64_t left_out = core::trace::finish_from_environment(rank); left_out > 0)
    std::fprintf(stderr, "%s: the trace lacks %llu events beyond its bound\n", kProgram,
                 static_cast<unsigned long long>(left_out));
}

int report_failure(Comm& comm, const std::exception_ptr& failure) {
  try {
    finish_trace(comm.rank());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  return comm.report(failure);
}

int run_with_ranks(int& argc, char**& argv, const std::vector<std::string>& words) {
  require_process_limits();
  Comm comm(argc, argv);
  install_signal_handlers();  // once more: MPI has its own
  try {
    Request request;
    comm.run_agreed([&] {
      core::arm_failpoints_from_environment();
      request = parse(words);
      core::trace::start_from_environment(comm.rank());
    });
    run(request, comm);
    comm.run_agreed([&] { finish_trace(comm.rank()); });
    return static_cast<int>(ExitCode::kOk);
  } catch (...) {
    return report_failure(comm, std::current_exception());
  }
}

// Several ranks must agree on who prints a help text or a wrong argument; alone, neither waits for
// MPI to start.
bool launched_with_others() {
  const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
  return size != nullptr && std::atoi(size) > 1;
}

}  // namespace

int run_program(int argc, char** argv) {
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  try {
    if (!launched_with_others()) {
      core::arm_failpoints_from_environment();
      const Request request = parse(words);
      if (request.action == nullptr) {
        print(request.text);
        return static_cast<int>(ExitCode::kOk);
      }
    }
    return run_with_ranks(argc, argv, words);
  } catch (const core::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", core::format_fault({.found = error.what()}).c_str());
    return static_cast<int>(ExitCode::kInternal);
  }
}

}  // namespace trainer
