// The verbs of the program as plain functions: options in, one JSON object out. The command line
// (trainer/cli.cpp) fills the options; a verb prints for people through Session::say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "trainer/models/id_source.h"
#include "trainer/ranks/session.h"
#include "trainer/run/train_options.h"

namespace trainer {

namespace fs = std::filesystem;

struct SweepOptions {
  fs::path config;
  std::vector<std::string> overrides;  // key=value, of every trial
  std::vector<std::string> only;       // name=value, all of which a trial must have
  std::string shard;                   // "i/n"; empty: all
  bool list = false, dry_run = false, fail_fast = false;
};

struct TokenizeVerbOptions {
  fs::path tokenizer, out;
  std::vector<fs::path> inputs;
  std::string key = "text", eos = "append";  // append | none
};

struct EncodeOptions {
  fs::path tokenizer, in, out;
};

struct CalibrateOptions {
  fs::path model, out;
  IdSource source;
  int64_t batch = 4;
};

struct ConvertOptions {
  fs::path model, out, stats;
  std::string rope = "2-norm", latent = "joint", score = "product";
  int64_t rope_pairs = 0, latent_dims = 0, uniform_start = 0;
  IdSource source;
  bool dry_run = false;
};

struct EvalOptions {
  fs::path model;
  IdSource source;
  std::string dtype = "float32";
  int64_t batch = 4;
};

struct LogitsOptions {
  fs::path model, ids, out;
  std::string dtype = "float32";
};

struct CompareOptions {
  fs::path a, b;
  IdSource source;
  std::string dtype = "float32", dtype_b;  // dtype_b: of B, empty: that of A
  bool bits = false;
};

struct ExportOptions {
  fs::path model, out;
  std::string format = "hf", layout;  // hf: layout v1 | v2; dense: none
  std::string dtype;                  // empty: every weight as it is stored
  int64_t max_shard_bytes = 5'000'000'000;
  IdSource source;  // of the verdict; none: ids spread over the vocabulary
};

struct GenerateOptions {
  fs::path model;
  std::string prompt, dtype = "float32";
  double temperature = 0, top_p = 1;  // temperature 0: greedy
  int64_t seed = 0, max_new_tokens = 128;
};

struct InspectOptions {
  fs::path path;
  bool verify = false;
};

struct ReportOptions {
  std::vector<fs::path> inputs;
  fs::path out;
  int64_t pretraining_tokens = 0;  // of the source model; 0: unknown
};

struct WatchOptions {
  fs::path run;
  double seconds = 2;  // between two looks at the run
};

struct ValidateOptions {
  fs::path config;
  std::vector<std::string> overrides;
  int64_t ranks = 1;  // that the run is going to have, all on this node
};

// One of: all defaults, the resolved configuration of a file, the folder of its run, files of
// another program as a configuration.
struct ConfigOptions {
  bool defaults = false, run_folder = false;
  fs::path config;
  std::vector<std::string> migrate;  // files, and key=value
  std::vector<std::string> overrides;
};

nlohmann::json run_train(const TrainOptions& options, Session& session);
nlohmann::json run_sweep(const SweepOptions& options, Session& session);
nlohmann::json run_tokenize(const TokenizeVerbOptions& options, Session& session);
nlohmann::json run_encode(const EncodeOptions& options, Session& session);
nlohmann::json run_calibrate(const CalibrateOptions& options, Session& session);
nlohmann::json run_convert(const ConvertOptions& options, Session& session);
nlohmann::json run_eval(const EvalOptions& options, Session& session);
nlohmann::json run_logits(const LogitsOptions& options, Session& session);
nlohmann::json run_compare(const CompareOptions& options, Session& session);
nlohmann::json run_export(const ExportOptions& options, Session& session);
nlohmann::json run_generate(const GenerateOptions& options, Session& session);
nlohmann::json run_inspect(const InspectOptions& options, Session& session);
nlohmann::json run_report(const ReportOptions& options, Session& session);
nlohmann::json run_watch(const WatchOptions& options, Session& session);
nlohmann::json run_validate(const ValidateOptions& options, Session& session);
nlohmann::json run_config(const ConfigOptions& options, Session& session);
nlohmann::json run_env(Session& session);

// "mha2mla 0.1.0 (release, g++ 12.2.0, avx2)"
std::string version_line();

}  // namespace trainer
