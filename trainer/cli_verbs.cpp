#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "trainer/cli.h"
#include "trainer/config/did_you_mean.h"
#include "trainer/verbs/verbs.h"

namespace trainer {
namespace {

constexpr int64_t kMaxCount = int64_t{1} << 40;

using Choices = std::vector<std::string>;

void add_choice(CLI::App& app, const char* name, std::string& value, const char* help,
                const Choices& choices) {
  const auto check = [choices](const std::string& text) {
    if (std::find(choices.begin(), choices.end(), text) != choices.end()) return std::string();
    const std::string hint = did_you_mean(text, choices);
    return fmt::format("expected {}, got \"{}\"{}{}", fmt::join(choices, " | "), text,
                       hint.empty() ? "" : "; ", hint);
  };
  app.add_option(name, value, help)
      ->check(CLI::Validator(check, ""))
      ->type_name(fmt::format("{}", fmt::join(choices, "|")));
}

CLI::Option* add_model(CLI::App& app, fs::path& path, const char* name = "MODEL") {
  return app
      .add_option(name, path,
                  "Hugging Face folder, .gguf file, native model folder, checkpoint, or run folder")
      ->required()
      ->type_name("PATH");
}

CLI::Option* add_path(CLI::App& app, const char* name, fs::path& path, const char* help) {
  return app.add_option(name, path, help)->type_name("PATH");
}

void add_count(CLI::App& app, const char* name, int64_t& value, const char* help, int64_t least,
               int64_t most = kMaxCount) {
  const auto check = [least, most](const std::string& text) {
    int64_t number = 0;
    if (CLI::detail::lexical_cast(text, number) && number >= least && number <= most)
      return std::string();
    return fmt::format("expected a whole number from {} to {}, got \"{}\"", least, most, text);
  };
  app.add_option(name, value, help)->type_name("N")->check(CLI::Validator(check, ""));
}

void add_real(CLI::App& app, const char* name, double& value, const char* help, double most) {
  const auto check = [most](const std::string& text) {
    double number = 0;
    if (CLI::detail::lexical_cast(text, number) && number >= 0 && number <= most)
      return std::string();
    return fmt::format("expected a number from 0 to {}, got \"{}\"", most, text);
  };
  app.add_option(name, value, help)->type_name("X")->check(CLI::Validator(check, ""));
}

void add_dtype(CLI::App& app, std::string& dtype) {
  add_choice(app, "--dtype", dtype, "of weights and activations", {"float32", "bfloat16"});
}

void add_batch(CLI::App& app, int64_t& batch) {
  add_count(app, "--batch", batch, "windows that go through the model at once", 1, 65536);
}

// --data and --ids; which of them is needed is checked once all is parsed.
void add_id_source(CLI::App& app, IdSource& source, std::function<bool()> needed) {
  app.add_option("--data", source.data,
                 "shard (.ds) or folder of shards, several with commas between")
      ->type_name("PATH,...")
      ->delimiter(',')
      ->allow_extra_args(false);
  add_path(app, "--ids", source.ids, "safetensors file with `input_ids` [B, S], instead of --data");
  add_count(app, "--sequence-length", source.sequence_length,
            "ids per window of --data; 0: 1024, or what the model allows if less", 0);
  add_count(app, "--max-windows", source.max_windows, "windows of each shard of --data; 0: all", 0);
  app.callback([&source, needed = std::move(needed)] {
    const bool data = !source.data.empty(), ids = !source.ids.empty();
    if (data && ids)
      throw CLI::ValidationError("--ids", "expected one of --data and --ids, got both");
    if (!data && !ids && needed())
      throw CLI::ValidationError("--data", "expected one of --data and --ids, got neither");
  });
}

VerbAction declare_train(CLI::App& app) {
  auto o = std::make_shared<TrainOptions>();
  add_path(app, "CONFIG", o->config, "configuration (.yaml)")->required();
  app.add_option("OVERRIDES", o->overrides,
                 "key=value, e.g. optimizer.clip_grad=0.5; paths relative to where you are")
      ->type_name("key=value");
  app.add_option("--resume", o->resume,
                 "auto: the run's newest valid checkpoint if there is one | none | checkpoint PATH")
      ->type_name("auto|none|PATH");
  add_count(app, "--replay", o->replay,
            "compute this step once more, compare it with what the run recorded, and train nothing",
            1);
  app.add_flag("--dry-run", o->dry_run, "check configuration, model, data, disk and memory only");
  app.callback([o = o.get()] {
    if (o->replay == 0) return;
    if (o->dry_run) throw CLI::ValidationError("--replay", "expected no --dry-run, got both");
    if (o->resume == "none")
      throw CLI::ValidationError("--replay",
                                 "expected a checkpoint to start from, got --resume none");
  });
  return [o](Session& s) { return run_train(*o, s); };
}

VerbAction declare_sweep(CLI::App& app) {
  auto o = std::make_shared<SweepOptions>();
  add_path(app, "CONFIG", o->config, "sweep (.yaml)")->required();
  app.add_option("OVERRIDES", o->overrides, "key=value, for every trial")->type_name("key=value");
  app.add_flag("--list", o->list, "print the trials with cache, tokens, time and state only");
  app.add_flag("--dry-run", o->dry_run, "check every trial as train --dry-run does only");
  app.add_option("--only", o->only, "trials with this setting, e.g. rope=2-norm; several: all")
      ->type_name("name=value")
      ->allow_extra_args(false);
  app.add_option("--shard", o->shard, "every n-th trial from the i-th on, for arrays of jobs")
      ->type_name("i/n");
  app.add_flag("--fail-fast", o->fail_fast, "start no trial after one has failed");
  return [o](Session& s) { return run_sweep(*o, s); };
}

VerbAction declare_calibrate(CLI::App& app) {
  auto o = std::make_shared<CalibrateOptions>();
  add_model(app, o->model);
  add_id_source(app, o->source, [] { return true; });
  add_batch(app, o->batch);
  add_path(app, "--out", o->out, "statistics to write (.safetensors)")->required();
  return [o](Session& s) { return run_calibrate(*o, s); };
}

VerbAction declare_convert(CLI::App& app) {
  auto o = std::make_shared<ConvertOptions>();
  add_model(app, o->model);
  add_choice(app, "--rope", o->rope, "which frequency pairs keep their rotation",
             {"full", "none", "high", "low", "uniform", "high-low", "2-norm"});
  add_count(app, "--rope-pairs", o->rope_pairs,
            "pairs kept per kv head, 2 dimensions each; unused by full and none", 0);
  add_count(app, "--uniform-start", o->uniform_start, "first kept pair of --rope uniform", 0);
  add_choice(app, "--score", o->score, "2-norm score of a pair, of its query and key norms",
             {"product", "sum"});
  add_choice(app, "--latent", o->latent, "one latent for keys and values, one each, or none",
             {"joint", "split", "none"});
  add_count(app, "--latent-dims", o->latent_dims,
            "width of a latent per kv head, in cached numbers per token; unused by none", 0);
  add_path(app, "--stats", o->stats, "statistics of mha2mla calibrate, for --rope 2-norm");
  add_id_source(app, o->source, [] { return false; });
  add_path(app, "--out", o->out, "native model folder to make")->required();
  app.add_flag("--dry-run", o->dry_run,
               "say what it needs of memory, disk and time, and make nothing");
  return [o](Session& s) { return run_convert(*o, s); };
}

VerbAction declare_eval(CLI::App& app) {
  auto o = std::make_shared<EvalOptions>();
  add_model(app, o->model);
  add_id_source(app, o->source, [] { return true; });
  add_batch(app, o->batch);
  add_dtype(app, o->dtype);
  return [o](Session& s) { return run_eval(*o, s); };
}

VerbAction declare_logits(CLI::App& app) {
  auto o = std::make_shared<LogitsOptions>();
  add_model(app, o->model);
  add_path(app, "--ids", o->ids, "safetensors file with `input_ids` [B, S], I32 or I64")
      ->required();
  add_path(app, "--out", o->out, "safetensors file to write: `logits` [B, S, V], F32")->required();
  add_dtype(app, o->dtype);
  return [o](Session& s) { return run_logits(*o, s); };
}

VerbAction declare_compare(CLI::App& app) {
  auto o = std::make_shared<CompareOptions>();
  add_model(app, o->a, "A");
  add_model(app, o->b, "B");
  add_id_source(app, o->source, [o = o.get()] { return !o->bits; });
  add_dtype(app, o->dtype);
  add_choice(app, "--dtype-b", o->dtype_b,
             "of B; left out: as A. One model in two types shows rounding",
             {"float32", "bfloat16"});
  app.add_flag("--bits", o->bits, "compare the stored tensors bit by bit instead");
  return [o](Session& s) { return run_compare(*o, s); };
}

VerbAction declare_export(CLI::App& app) {
  auto o = std::make_shared<ExportOptions>();
  add_model(app, o->model);
  add_path(app, "--out", o->out, "Hugging Face folder to make")->required();
  add_choice(app, "--format", o->format,
             "hf: as it is, for the public MHA2MLA code; dense: as a plain model of q, k and v",
             {"hf", "dense"});
  add_choice(app, "--layout", o->layout,
             "of hf: names and configuration of the first public code, or of its later one",
             {"v1", "v2"});
  add_choice(app, "--dtype", o->dtype, "of the weights; left out: each as it is stored",
             {"float32", "bfloat16"});
  add_count(app, "--max-shard-bytes", o->max_shard_bytes, "of a .safetensors file", 1);
  add_id_source(app, o->source, [o = o.get()] {
    if ((o->format == "hf") == o->layout.empty())
      throw CLI::ValidationError(
          "--layout", o->layout.empty() ? "expected v1 or v2 with --format hf, got nothing"
                                        : "expected nothing with --format dense, got " + o->layout);
    return false;
  });
  return [o](Session& s) { return run_export(*o, s); };
}

VerbAction declare_generate(CLI::App& app) {
  auto o = std::make_shared<GenerateOptions>();
  add_model(app, o->model);
  app.add_option("--prompt", o->prompt, "text to go on from")->required()->type_name("TEXT");
  add_count(app, "--max-new-tokens", o->max_new_tokens, "tokens to generate at most", 1);
  add_real(app, "--temperature", o->temperature, "0: always the likeliest token", 100.0);
  add_real(app, "--top-p", o->top_p, "sample from the likeliest tokens with this probability", 1.0);
  add_count(app, "--seed", o->seed, "of the sampling", 0);
  add_dtype(app, o->dtype);
  return [o](Session& s) { return run_generate(*o, s); };
}

VerbAction declare_tokenize(CLI::App& app) {
  auto o = std::make_shared<TokenizeVerbOptions>();
  add_path(app, "--tokenizer", o->tokenizer,
           "tokenizer.json, the folder that holds it, or a .gguf file")
      ->required();
  add_path(app, "--out", o->out, "shard to write: PREFIX.ds and its companions")
      ->required()
      ->type_name("PREFIX");
  app.add_option("--key", o->key, "of the text in a .jsonl line")->type_name("KEY");
  add_choice(app, "--eos", o->eos, "what follows each document, besides the tokenizer's template",
             {"append", "none"});
  app.add_option("INPUT", o->inputs, ".jsonl and .txt files, plain, .gz or .zst")
      ->required()
      ->type_name("PATH");
  return [o](Session& s) { return run_tokenize(*o, s); };
}

VerbAction declare_encode(CLI::App& app) {
  auto o = std::make_shared<EncodeOptions>();
  add_path(app, "--tokenizer", o->tokenizer,
           "tokenizer.json, the folder that holds it, or a .gguf file")
      ->required();
  add_path(app, "--in", o->in, ".jsonl file whose lines hold `text`")->required();
  add_path(app, "--out", o->out, ".jsonl file to write, a line for each line")->required();
  return [o](Session& s) { return run_encode(*o, s); };
}

VerbAction declare_inspect(CLI::App& app) {
  auto o = std::make_shared<InspectOptions>();
  add_path(app, "PATH", o->path,
           "model, checkpoint or run folder, .safetensors, .gguf, .h5, .ds, tokenizer.json")
      ->required();
  app.add_flag("--verify", o->verify, "read everything and compare it with the recorded hashes");
  return [o](Session& s) { return run_inspect(*o, s); };
}

VerbAction declare_report(CLI::App& app) {
  auto o = std::make_shared<ReportOptions>();
  app.add_option("RUN", o->inputs,
                 "run, sweep and converted model folders; broken ones are left out")
      ->required()
      ->type_name("PATH");
  add_path(app, "--out", o->out, "folder for report.html, its SVGs and tables")->required();
  add_count(app, "--pretraining-tokens", o->pretraining_tokens,
            "tokens that the source model was trained on, to compare with; 0: unknown", 0,
            int64_t{1} << 50);
  return [o](Session& s) { return run_report(*o, s); };
}

VerbAction declare_watch(CLI::App& app) {
  auto o = std::make_shared<WatchOptions>();
  add_path(app, "RUN", o->run, "run folder")->required();
  add_real(app, "--seconds", o->seconds, "between two looks at the run", 3600);
  return [o](Session& s) { return run_watch(*o, s); };
}

VerbAction declare_validate(CLI::App& app) {
  auto o = std::make_shared<ValidateOptions>();
  add_path(app, "CONFIG", o->config, "configuration (.yaml)")->required();
  app.add_option("OVERRIDES", o->overrides, "key=value, e.g. tokens.micro_batch_size=2")
      ->type_name("key=value");
  add_count(app, "--ranks", o->ranks, "ranks that the run is going to have", 1, 65536);
  return [o](Session& s) { return run_validate(*o, s); };
}

VerbAction declare_config(CLI::App& app) {
  auto o = std::make_shared<ConfigOptions>();
  CLI::Option* config =
      add_path(app, "CONFIG", o->config, "configuration (.yaml): every value that it results in");
  app.add_option("OVERRIDES", o->overrides, "key=value, as with train")->type_name("key=value");
  CLI::Option* defaults = app.add_flag("--defaults", o->defaults,
                                       "every key with its default and what it means, as YAML")
                              ->excludes(config);
  app.add_option(
         "--migrate", o->migrate,
         "files of one run of nanotron or of the public MHA2MLA code, and key=value of ours: "
         "the same run as a configuration, and what of it could not be carried over")
      ->type_name("FILE...")
      ->excludes(config)
      ->excludes(defaults);
  app.add_flag("--run-folder", o->run_folder, "only the folder of the run of CONFIG")
      ->needs(config);
  return [o](Session& s) { return run_config(*o, s); };
}

VerbAction declare_env(CLI::App&) {
  return [](Session& s) { return run_env(s); };
}

}  // namespace

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> all = {
      {"convert", "Model", "Convert a source model to MLA and report what that costs",
       "  mha2mla convert llama --rope 2-norm --rope-pairs 4 --latent-dims 16 --data a.ds "
       "--out mla\n"
       "  mha2mla convert llama --rope high --rope-pairs 4 --latent split --latent-dims 8 "
       "--out mla\n",
       true, declare_convert},
      {"calibrate", "Model", "Measure the 2-norm statistics that choose the rotary pairs",
       "  mha2mla calibrate llama --data a.ds --max-windows 1024 --out stats.safetensors\n"
       "  mha2mla calibrate llama --ids ids.safetensors --out stats.safetensors\n",
       true, declare_calibrate},
      {"eval", "Model", "Loss and perplexity on shards",
       "  mha2mla eval runs/smollm/r4-c16 --data prose.val.ds,code.val.ds --sequence-length 2048\n"
       "  mha2mla eval llama --data val.ds --sequence-length 1024 --max-windows 50 --json\n",
       true, declare_eval},
      {"logits", "Model", "Logits of given token ids",
       "  mha2mla logits llama --ids ids.safetensors --out logits.safetensors\n"
       "  mha2mla logits mla --ids ids.safetensors --out logits.safetensors --dtype bfloat16\n",
       true, declare_logits},
      {"compare", "Model", "How far two models are apart, in logits or bit by bit",
       "  mha2mla compare llama mla --data val.ds --max-windows 8\n"
       "  mha2mla compare run/checkpoints/step-000000100 other/checkpoints/step-000000100 --bits\n",
       true, declare_compare},
      {"export", "Model", "Write a Hugging Face folder and prove that it is the same model",
       "  mha2mla export runs/smollm/r4-c16 --layout v1 --out smollm-mla\n"
       "  mha2mla export mla --format dense --dtype bfloat16 --out llama-again\n",
       true, declare_export},
      {"generate", "Model", "Go on from a prompt, decoding from the cache",
       "  mha2mla generate mla --prompt \"Once upon a time\"\n"
       "  mha2mla generate mla --prompt \"def f(\" --temperature 0.8 --top-p 0.95 --seed 1\n",
       true, declare_generate},
      {"tokenize", "Data", "Turn text into a shard of token ids",
       "  mha2mla tokenize --tokenizer llama --out corpus/prose.train prose.jsonl.zst\n"
       "  mha2mla tokenize --tokenizer llama/tokenizer.json --out code --eos none *.txt\n",
       true, declare_tokenize},
      {"encode", "Data", "Encode and decode the texts of a .jsonl file",
       "  mha2mla encode --tokenizer llama --in cases.jsonl --out ids.jsonl\n"
       "  mha2mla encode --tokenizer tokenizer.json --in cases.jsonl.gz --out ids.jsonl --json\n",
       false, declare_encode},
      {"train", "Run", "Convert if asked to, fine-tune, evaluate, checkpoint; resume",
       "  mha2mla train configs/tiny.yaml tokens.train_steps=100\n"
       "  mpirun -np 2 --bind-to none mha2mla train configs/tiny.yaml\n"
       "  mha2mla train configs/tiny.yaml --dry-run\n",
       false, declare_train},
      {"sweep", "Run", "Train many variants of a configuration, and one table of them",
       "  mpirun -np 2 --bind-to none mha2mla sweep configs/sweeps/strategies-tiny.yaml\n"
       "  mha2mla sweep configs/sweeps/strategies-tiny.yaml --list\n"
       "  mha2mla sweep configs/sweeps/strategies-tiny.yaml --only rope=2-norm --shard 1/2\n",
       false, declare_sweep},
      {"validate", "Run", "Check a configuration, its model, data, disk and memory; train nothing",
       "  mha2mla validate configs/tiny.yaml\n"
       "  mha2mla validate configs/tiny.yaml tokens.micro_batch_size=8 --ranks 4\n",
       false, declare_validate},
      {"config", "Run", "Write the configuration with all defaults",
       "  mha2mla config --defaults > my.yaml\n"
       "  mha2mla config my.yaml tokens.train_steps=100\n"
       "  mha2mla config --migrate nanotron.yaml > my.yaml\n"
       "  mha2mla config --migrate run.yaml rope.yaml svd.yaml tokens.global_batch_size=64\n"
       "  mha2mla config --defaults --json\n",
       false, declare_config},
      {"inspect", "Inspect", "Show what is in a model, checkpoint, run, shard or tokenizer",
       "  mha2mla inspect runs/smollm/r4-c16\n"
       "  mha2mla inspect prose.train.ds --verify --json\n",
       false, declare_inspect},
      {"report", "Inspect", "Curves, conversions and tables of runs as one HTML page",
       "  mha2mla report runs/smollm/r4-c16 --out report\n"
       "  mha2mla report runs/tiny/* --out report --pretraining-tokens 600000000000\n",
       false, declare_report},
      {"watch", "Inspect", "Plot the loss of a run in the terminal until the run ends",
       "  mha2mla watch runs/smollm/r4-c16\n"
       "  mha2mla watch runs/smollm/r4-c16 > plot.txt\n",
       false, declare_watch},
      {"env", "Inspect", "Versions, processor, cores and environment, for bug reports",
       "  mha2mla env\n"
       "  mha2mla env --json\n",
       false, declare_env},
  };
  return all;
}

}  // namespace trainer
