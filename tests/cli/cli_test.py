"""The program as its users meet it: arguments, exit codes, one-line errors, JSON on stdout.

  cli_test.py PROGRAM SOURCE_FOLDER [unittest arguments]
"""
import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import support

PROGRAM = sys.argv.pop(1)
SOURCE = Path(sys.argv.pop(1))
DATA = SOURCE / "tests" / "data_files"
TINY = SOURCE / "examples" / "tiny-llama"
VERBS = ["convert", "calibrate", "eval", "logits", "compare", "export", "generate", "tokenize", "encode",
         "train", "sweep", "validate", "config", "inspect", "report", "watch", "env"]
USAGE, BAD_DATA, MISSING, IO, PERMISSION, BAD_CONFIG, PREEMPTED = 64, 65, 66, 74, 77, 78, 75


def read_jsonl(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class CliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="mha2mla-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_program(self, *arguments, launcher=()):
        environment = dict(os.environ, OMP_NUM_THREADS="2", OMPI_ALLOW_RUN_AS_ROOT="1",
                           OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                           OMPI_MCA_rmaps_base_oversubscribe="1")
        return subprocess.run([*launcher, PROGRAM, *map(str, arguments)], cwd=self.folder,
                              env=environment, capture_output=True, text=True, timeout=120)

    def run_json(self, *arguments):
        done = self.run_program(*arguments, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)  # refuses anything before or after the one value
        self.assertIsInstance(result, dict)
        return result

    def assert_refused(self, code, parts, *arguments):
        """Exit code, nothing on stdout, one line on stderr that holds every part."""
        done = self.run_program(*arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn("error:", done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr)

    def write_jsonl(self, name, texts, key="text"):
        path = self.folder / name
        opened = gzip.open if name.endswith(".gz") else open
        with opened(path, "wt", encoding="utf-8") as file:
            for text in texts:
                file.write(json.dumps({key: text}) + "\n")
        return path

    def make_shard(self, name, documents=40):
        texts = [f"Document {i} tells of numbers: " + "one two three four " * 20
                 for i in range(documents)]
        source = self.write_jsonl(name + ".jsonl", texts)
        return self.run_json("tokenize", "--tokenizer", TINY, "--out", name, source)

    def write_config(self):
        text = (SOURCE / "configs" / "tiny.yaml").read_text()
        text = text.replace("../runs/corpus/", "").replace("../examples", str(SOURCE / "examples"))
        path = self.folder / "run.yaml"
        path.write_text(text)
        return path


class Help(CliTest):
    def test_program(self):
        done = self.run_program("--help")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stderr, "")
        for word in ["Model", "Data", "Run", "Inspect", *VERBS]:
            self.assertIn(word, done.stdout)

    def test_every_verb_has_two_examples_of_itself(self):
        for verb in VERBS:
            done = self.run_program(verb, "--help")
            self.assertEqual(done.returncode, 0, verb)
            examples = done.stdout.split("\nExamples\n")[1].strip().splitlines()
            self.assertGreaterEqual(len(examples), 2, verb)
            for line in examples:
                self.assertIn(f"mha2mla {verb} ", line + " ")

    def test_defaults_are_shown(self):
        text = self.run_program("tokenize", "--help").stdout
        self.assertIn("(default: append)", text)
        self.assertIn("(default: text)", text)

    def test_version(self):
        done = self.run_program("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"^mha2mla \d+\.\d+\.\d+ \(.*isa \w+\)\n$")

    def test_help_does_not_need_anything_else(self):
        self.assertEqual(self.run_program("convert", "--rope", "high", "-h").returncode, 0)

    def test_closed_output_is_an_error(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, IO)


class Usage(CliTest):
    def test_nothing(self):
        self.assert_refused(USAGE, ["verb", "got nothing"])

    def test_unknown_verb(self):
        self.assert_refused(USAGE, ['got "trian"', "did you mean train?"], "trian", "x.yaml")

    def test_unknown_program_option(self):
        self.assert_refused(USAGE, ["did you mean --version?"], "--verison")

    def test_misspelt_option(self):
        self.assert_refused(USAGE, ["--tokeniser: unknown option", "did you mean --tokenizer?"],
                            "tokenize", "--tokeniser", "t", "--out", "o", "in.txt")
        self.assert_refused(USAGE, ["--max-window: unknown", "did you mean --max-windows?"],
                            "eval", "m", "--data", "d", "--max-window=3")

    def test_missing_option(self):
        self.assert_refused(USAGE, ["--out is required"], "tokenize", "--tokenizer", "t", "in.txt")

    def test_wrong_choice(self):
        self.assert_refused(USAGE, ["--rope: expected full | none", 'got "hihg"', "mean high?"],
                            "convert", "m", "--out", "o", "--rope", "hihg")

    def test_wrong_number(self):
        for value in ["0", "-3", "x", "1e3", "99999999999999999999"]:
            self.assert_refused(USAGE, ["--batch: expected a whole number from 1", value],
                                "eval", "m", "--data", "d", "--batch", value)
        self.assert_refused(USAGE, ["--top-p: expected a number from 0 to 1"],
                            "generate", "m", "--prompt", "x", "--top-p", "nan")

    def test_superfluous_argument(self):
        self.assert_refused(USAGE, ['superfluous "b"'], "inspect", "a", "b")

    def test_data_or_ids(self):
        self.assert_refused(USAGE, ["one of --data and --ids, got neither"], "eval", "m")
        self.assert_refused(USAGE, ["one of --data and --ids, got both"],
                            "eval", "m", "--data", "d", "--ids", "i")
        self.assert_refused(USAGE, ["got neither"], "compare", "a", "b")

    def test_data_leaves_the_model_alone(self):
        self.assert_refused(MISSING, ["my-model: error: MODEL"],
                            "eval", "--data", "a.ds,b.ds", "my-model")

    def test_argument_named_like_a_verb(self):
        self.assert_refused(MISSING, ["config: error: PATH"], "inspect", "config")

    def test_configuration_first_is_train(self):
        self.assert_refused(MISSING, ["absent.yaml"], "absent.yaml")
        self.assert_refused(MISSING, ["absent.yml"], "train", "absent.yml")

    def test_only_train_runs_on_several_ranks(self):
        done = self.run_program("env", launcher=["mpirun", "-np", "2", "--bind-to", "none"])
        self.assertEqual(done.returncode, USAGE)
        self.assertEqual(done.stderr.count("ranks: expected 1, got 2; only train and sweep run"), 1,
                         done.stderr)
        done = self.run_program("evn", launcher=["mpirun", "-np", "2", "--bind-to", "none"])
        self.assertEqual(done.returncode, USAGE)
        self.assertEqual(done.stderr.count('got "evn"; did you mean env?'), 1, done.stderr)


class Encode(CliTest):
    def test_reference_cases(self):
        for name in ["gpt2", "smollm"]:
            tokenizer = DATA / f"tokenizer-{name}"
            cases = read_jsonl(tokenizer / "cases.jsonl")
            result = self.run_json("encode", "--tokenizer", tokenizer, "--in",
                                   tokenizer / "cases.jsonl", "--out", f"{name}.jsonl")
            lines = read_jsonl(self.folder / f"{name}.jsonl")
            self.assertEqual(result["lines"], len(cases))
            self.assertGreater(len(cases), 50)
            for case, line in zip(cases, lines, strict=True):
                text = case.pop("text")
                self.assertEqual(line, case, repr(text))

    def test_errors(self):
        self.assert_refused(MISSING, ["absent"], "encode", "--tokenizer", "absent", "--in", "i",
                            "--out", "o")
        self.assert_refused(MISSING, ["absent.jsonl"], "encode", "--tokenizer", TINY, "--in",
                            "absent.jsonl", "--out", "o")
        bad = self.folder / "bad.jsonl"
        bad.write_text('{"text": "fine"}\n{"txt": 1}\n')
        self.assert_refused(BAD_DATA, ["bad.jsonl:2", "text"], "encode", "--tokenizer", TINY,
                            "--in", bad, "--out", "o.jsonl")
        self.assertFalse((self.folder / "o.jsonl").exists())


class TokenizeAndInspect(CliTest):
    def test_shard(self):
        source = self.write_jsonl("two.jsonl.gz", ["hello world", "a second document"])
        made = self.run_json("tokenize", "--tokenizer", TINY, "--out", "two", source)
        self.assertEqual((made["documents"], made["token_size"], made["eos_id"]), (2, 2, 0))
        ids = (self.folder / "two.ds").read_bytes()
        self.assertEqual(len(ids), 2 * made["tokens"])
        self.assertEqual(ids[-2:], b"\0\0")

        shown = self.run_json("inspect", "two.ds", "--verify")
        self.assertEqual((shown["tokens"], shown["documents"]), (made["tokens"], 2))
        self.assertIs(shown["verified"], True)
        self.assertEqual(shown["origin"]["tokenizer_hash"], made["tokenizer_hash"])
        self.assertEqual(self.run_json("inspect", ".")["tokens"], made["tokens"])

        (self.folder / "two.ds").write_bytes(b"\1" + ids[1:])
        self.assert_refused(BAD_DATA, ["two.ds"], "inspect", "two.ds", "--verify")

    def test_eos_none_and_key(self):
        source = self.write_jsonl("body.jsonl", ["hello", "world"], key="body")
        done = self.run_json("tokenize", "--tokenizer", TINY, "--out", "n", "--eos", "none",
                             "--key", "body", source)
        more = self.run_json("tokenize", "--tokenizer", TINY, "--out", "a", "--key", "body", source)
        self.assertEqual(done["tokens"] + 2, more["tokens"])
        self.assertIsNone(done["eos_id"])

    def test_threads_do_not_change_the_shard(self):
        source = self.write_jsonl("many.jsonl", [f"text {i} " * (i % 7) + "." for i in range(500)])
        for threads in ["1", "3"]:
            self.run_json("tokenize", "--tokenizer", TINY, "--out", f"t{threads}", "--threads",
                          threads, source)
        self.assertEqual((self.folder / "t1.ds").read_bytes(),
                         (self.folder / "t3.ds").read_bytes())

    def test_eos_of_config_json(self):
        tokenizer = self.folder / "t"
        tokenizer.mkdir()
        (tokenizer / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())
        source = self.write_jsonl("x.jsonl", ["hello"])
        self.assert_refused(MISSING, ["eos_token", "--eos none"], "tokenize", "--tokenizer",
                            tokenizer, "--out", "x", source)
        (tokenizer / "config.json").write_text('{"eos_token_id": 7}')
        self.assertEqual(self.run_json("tokenize", "--tokenizer", tokenizer, "--out", "x",
                                       source)["eos_id"], 7)
        (tokenizer / "tokenizer_config.json").write_text('{"eos_token": {"content": "nope"}}')
        self.assert_refused(BAD_DATA, ["tokenizer_config.json", "eos_token"], "tokenize",
                            "--tokenizer", tokenizer, "--out", "y", source)

    def test_unwritable_out(self):
        source = self.write_jsonl("x.jsonl", ["hello"])
        (self.folder / "file").write_text("")
        done = self.run_program("tokenize", "--tokenizer", TINY, "--out", "file/x", source)
        self.assertIn(done.returncode, (MISSING, IO, PERMISSION))
        self.assertIn("file", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_missing_input(self):
        self.assert_refused(MISSING, ["absent.txt"], "tokenize", "--tokenizer", TINY, "--out", "x",
                            "absent.txt")
        self.assertFalse((self.folder / "x.ds").exists())

    def test_models(self):
        source = self.run_json("inspect", TINY, "--verify")
        self.assertEqual((source["kind"], source["converted"]), ("hugging_face", False))
        self.assertEqual(sum(row["bytes"] for row in source["tensors"]), source["bytes"])
        self.run_json("convert", TINY, "--rope", "high", "--rope-pairs", "2", "--latent-dims", "8",
                      "--out", "mla")
        mla = self.run_json("inspect", "mla", "--verify")
        self.assertEqual((mla["kind"], mla["converted"]), ("native", True))
        # Per token and head: 2 r rotary and c latent dimensions instead of 2 D.
        layers, heads = source["shape"]["layers"], source["shape"]["kv_heads"]
        self.assertEqual(mla["cache"]["elements_per_token"], layers * heads * (2 * 2 + 8))
        self.assertEqual(mla["cache"]["elements_per_token_before"],
                         source["cache"]["elements_per_token"])
        self.assertEqual(mla["attention"][0]["kept_pairs"][0], [0, 1])

        file = next((self.folder / "mla").glob("*.h5"))
        self.assertIs(self.run_json("inspect", file, "--verify")["verified"], True)
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        self.assert_refused(BAD_DATA, [file.name], "inspect", file, "--verify")
        self.assert_refused(BAD_DATA, [file.name], "inspect", "mla")

    def test_export_and_import(self):
        self.run_json("convert", TINY, "--rope", "uniform", "--rope-pairs", "2", "--latent-dims", "8", "--out", "mla")
        for layout in ["v1", "v2"]:
            done = self.run_json("export", "mla", "--layout", layout, "--max-shard-bytes", "4000000", "--out", layout)
            self.assertEqual((done["max_abs_difference"], done["same_function"]), (0, True))
            self.assertTrue(self.run_json("compare", "mla", layout, "--bits")["equal"])
            read = self.run_json("inspect", layout)
            self.assertEqual((read["kind"], read["converted"]), ("hugging_face", True))
            self.assertGreater(len(list((self.folder / layout).glob("model-*.safetensors"))), 1)
            self.assertTrue((self.folder / layout / "tokenizer.json").exists())
        rounded = self.run_json("export", "v1", "--layout", "v2", "--dtype", "bfloat16", "--out", "rounded")
        self.assertIs(rounded["same_function"], False)

    def test_a_lossless_conversion_comes_back_as_a_dense_model(self):
        config = json.loads((TINY / "config.json").read_text())
        width = config["hidden_size"] // config["num_attention_heads"]
        dims = min(config["hidden_size"] // config["num_key_value_heads"], width)
        done = self.run_json("convert", TINY, "--rope", "full", "--latent-dims", dims, "--out", "mla")
        self.assertIs(done["exact"], True)
        self.assertLess(done["compare"]["max_abs_difference"], 1e-3)
        self.run_json("export", "mla", "--format", "dense", "--out", "dense")
        self.assertIs(self.run_json("inspect", "dense")["converted"], False)
        self.run_json("export", TINY, "--format", "dense", "--out", "same")
        self.assertTrue(self.run_json("compare", TINY, "same", "--bits")["equal"])

    def test_other_files(self):
        tensors = self.run_json("inspect", TINY / "model.safetensors")
        self.assertEqual(tensors["tensor_count"], len(tensors["tensors"]))
        self.assertEqual(self.run_json("inspect", TINY / "tokenizer.json")["vocab_size"], 8192)
        self.assert_refused(MISSING, ["absent", "got nothing"], "inspect", "absent")
        self.assert_refused(MISSING, ["another file"], "inspect", Path(__file__).resolve())


class Validate(CliTest):
    def test_missing_shards_name_the_command(self):
        self.assert_refused(MISSING, ["prose.train.ds", "mha2mla tokenize"], "validate",
                            self.write_config())

    def make_corpus(self):
        for name in ["prose", "reference", "code"]:
            for split in ["train", "val"]:
                self.make_shard(f"{name}.{split}")

    def test_report(self):
        self.make_corpus()
        config = self.write_config()
        short = ["tokens.train_steps=3", "optimizer.learning_rate_scheduler.lr_decay_steps=0",
                 "optimizer.learning_rate_scheduler.lr_decay_starting_step=0",
                 "optimizer.learning_rate_scheduler.lr_warmup_steps=0"]
        report = self.run_json("validate", config, *short)
        parameters = report["conversion"]["parameters_after"]
        # Masters and two moments in f32.
        self.assertEqual(report["disk"]["checkpoint_bytes"], 12 * parameters)
        memory = report["memory"]
        self.assertEqual(memory["optimizer_bytes"], 8 * parameters)
        # Rank 0 copies what a checkpoint holds.
        self.assertEqual(memory["snapshot_bytes"], 12 * parameters)
        self.assertEqual(memory["total_bytes"], memory["total_per_rank_bytes"] + 12 * parameters)
        two = self.run_json("validate", config, *short, "--ranks", "2")["memory"]
        self.assertEqual(two["total_bytes"], 2 * two["total_per_rank_bytes"] + 12 * parameters)
        self.assertEqual(report["data"][0]["samples_needed"], 3 * 16)
        self.assertEqual([v["set"] for v in report["validation"]], ["prose", "reference", "code"])
        self.assertFalse((self.folder / "runs").exists())

        self.assert_refused(BAD_CONFIG, ["latent", "expected"], "validate", config,
                            "mla.latent.latent_dims_per_kv_head=4000")
        self.assert_refused(BAD_CONFIG, ["reduction_shards"], "validate", config, "--ranks", "8")
        self.assert_refused(BAD_CONFIG, ["rope_pairs"], "validate", config,
                            "mla.rope.rope_pairs_per_head=17")
        self.assert_refused(MISSING, ["absent"], "validate", config, "model.init_from=absent")
        self.assert_refused(IO, ["general.output_dir", "a file"], "validate", config,
                            f"general.output_dir={config}")

    def test_run_folder_is_a_model(self):
        self.make_corpus()
        done = self.run_program(
            self.write_config(), "tokens.train_steps=1",
            "optimizer.learning_rate_scheduler.lr_decay_steps=0",
            "optimizer.learning_rate_scheduler.lr_decay_starting_step=0",
            "optimizer.learning_rate_scheduler.lr_warmup_steps=0")
        self.assertEqual(done.returncode, 0, done.stderr)
        run = self.run_json("inspect", "runs/tiny/2-norm-r2-joint-c8", "--verify")
        self.assertEqual((run["kind"], run["converted"]), ("run", True))
        self.assertEqual([(c["step"], c["state"]) for c in run["checkpoints"]], [(1, "valid")])
        # What validate predicts is what a checkpoint takes, but for names and alignment.
        self.assertLess(abs(run["checkpoints"][0]["bytes"] / (12 * run["parameters"]) - 1), 0.03)

    def test_wrong_configuration_on_two_ranks_is_told_once(self):
        done = self.run_program("train", self.write_config(), "tokens.foo=1",
                                launcher=["mpirun", "-np", "2", "--bind-to", "none"])
        self.assertEqual(done.returncode, BAD_CONFIG)
        self.assertEqual(done.stderr.count("tokens.foo: expected a key"), 1, done.stderr)

    def test_unknown_key(self):
        done = self.run_program("validate", self.write_config(), "tokens.train_step=3")
        self.assertEqual(done.returncode, BAD_CONFIG)
        self.assertIn("train_steps", done.stderr)

    def test_id_beyond_the_vocabulary(self):
        self.make_corpus()
        shard = self.folder / "code.train.ds"
        content = bytearray(shard.read_bytes())
        content[1000:1002] = b"\xff\xff"
        shard.write_bytes(content)
        self.assert_refused(BAD_DATA, ["code.train.ds", "500"], "validate", self.write_config())


class Others(CliTest):
    def test_env(self):
        report = self.run_json("env")
        for key in ["program", "compiler", "mpi", "hdf5", "backend", "cpu", "isa", "threads"]:
            self.assertTrue(report[key], key)

    def test_wrong_isa(self):
        done = subprocess.run([PROGRAM, "env"], env=dict(os.environ, MHA2MLA_ISA="sse9"),
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, BAD_CONFIG)
        self.assertIn("MHA2MLA_ISA", done.stderr)

    def test_default_configuration(self):
        done = self.run_program("config", "--defaults")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(self.run_json("config", "--defaults")["yaml"], done.stdout)
        self.assert_refused(USAGE, ["--defaults, --migrate or a configuration"], "config")

    def test_resolved_configuration(self):
        config = self.folder / "resolve.yaml"
        config.write_text("general: {project: p, output_dir: /somewhere}\nmodel: {init_from: m}\n"
                          "data_stages: [{data: {dataset: {dataset_folder: a.ds}}}]\ntokens: {train_steps: 3}\n")
        done = self.run_program("config", config, "general.run=r", "--run-folder")
        self.assertEqual((done.returncode, done.stdout), (0, "/somewhere/p/r\n"))
        report = self.run_json("config", config, "tokens.train_steps=7")
        self.assertEqual(report["run_folder"], "/somewhere/p/default")
        self.assertIn("train_steps: 7\n", report["yaml"])
        self.assertFalse(Path("/somewhere").exists())


    def test_migrated_configuration_is_one_of_ours(self):
        files = [DATA / "migrate" / name for name in ("v1_run.yaml", "v1_rope.yaml", "v1_svd.yaml")]
        done = self.run_program("config", "--migrate", *files)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"(?m)^not carried over: the number of processes .* batch of one$")
        ours = self.folder / "ours.yaml"
        ours.write_text(done.stdout)
        self.assertIn("global_batch_size: 16\n", self.run_json("config", ours)["yaml"])
        report = self.run_json("config", "--migrate", *files, "tokens.global_batch_size=64")
        self.assertIn("given: tokens.global_batch_size=64", report["changed"])
        self.assertEqual(len(report["not_carried_over"]), 1)
        self.assert_refused(USAGE, ["--migrate", "expected a file"], "config", "--migrate", "a.b=1")
        self.assert_refused(MISSING, ["absent.yaml"], "config", "--migrate", "absent.yaml")
        self.assert_refused(BAD_CONFIG, ["ours.yaml", "one of ours"], "config", "--migrate", ours)


class Watching(CliTest):
    def test_run_that_was_killed(self):
        self.make_shard("text")
        config = self.folder / "long.yaml"
        config.write_text(f"general: {{project: p, run: r}}\nmodel: {{init_from: {TINY}}}\n"
                          "data_stages: [{data: {dataset: {dataset_folder: text.ds}}}]\n"
                          "tokens: {sequence_length: 32, micro_batch_size: 1, global_batch_size: 1, "
                          "train_steps: 100000}\nlogging: {iteration_step_info_interval: 1}\n")
        process = subprocess.Popen([PROGRAM, "train", str(config)], cwd=self.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=dict(os.environ, OMP_NUM_THREADS="1"))
        self.addCleanup(process.kill)
        run = self.folder / "runs" / "p" / "r"
        metrics = run / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not (metrics.exists() and '"type":"train"' in metrics.read_text()):
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(process.poll())
            time.sleep(0.05)
        self.assertEqual(self.run_json("watch", run)["process"], "alive")
        process.kill()
        process.wait()
        self.assertEqual(json.loads((run / "status.json").read_text())["state"], "training")
        self.assertEqual(self.run_json("watch", run)["process"], "gone")
        self.assertIn("(training, but its process is gone)", self.run_program("watch", run).stdout)
        # On a terminal it ends by itself.
        master, slave = pty.openpty()
        watch = subprocess.Popen([PROGRAM, "watch", str(run)], stdout=slave, stderr=slave)
        self.addCleanup(watch.kill)
        os.close(slave)
        self.assertEqual(watch.wait(timeout=60), 0)
        self.assertIn(f"process {process.pid} is gone without a word", os.read(master, 65536).decode())
        os.close(master)


class Stopping(CliTest):
    """A verb that is told to stop ends soon with 75, says so in one line, and leaves nothing behind."""

    def assert_stops(self, *arguments):
        process = subprocess.Popen([PROGRAM, *map(str, arguments)], cwd=self.folder, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True, env=dict(os.environ, OMP_NUM_THREADS="1"))
        self.addCleanup(process.kill)
        before = sorted(os.listdir(self.folder))
        status = Path(f"/proc/{process.pid}/status")
        term = 1 << (signal.SIGTERM - 1)
        while not int(re.search(r"SigCgt:\t(\w+)", status.read_text())[1], 16) & term:
            time.sleep(0.01)
        time.sleep(0.5)
        self.assertIsNone(process.poll(), "the work is too small for this test")
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=60)[1]
        self.assertEqual(process.returncode, PREEMPTED, errors)
        self.assertEqual(errors.splitlines()[-1], "stopped by SIGTERM; run the same command again")
        self.assertEqual([n for n in sorted(os.listdir(self.folder)) if n not in before], [])

    def test_calibrate_and_eval(self):
        support.write_shard(self.folder / "long.ds", count=1500000)
        model = DATA / "llama-gqa-tied"
        window = ["--data", "long.ds", "--sequence-length", "16"]
        self.assert_stops("calibrate", model, *window, "--out", "statistics.safetensors")
        self.assert_stops("eval", model, *window)

    def test_tokenize_and_encode(self):
        source = self.write_jsonl("long.jsonl", ["one two three four five six seven " * 2000] * 2000)
        self.assert_stops("tokenize", "--tokenizer", TINY, "--out", "shard", source)
        self.assert_stops("encode", "--tokenizer", TINY, "--in", source, "--out", "ids.jsonl")


if __name__ == "__main__":
    unittest.main()
