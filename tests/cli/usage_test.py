"""Help, options, configurations: what is refused before any work, and what is only looked at.

  usage_test.py PROGRAM SOURCE_FOLDER [unittest arguments]
"""
import os
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
from cli_case import PROGRAM, DATA, USAGE, BAD_DATA, MISSING, IO, BAD_CONFIG, CliTest

VERBS = ["convert", "calibrate", "eval", "logits", "compare", "export", "generate", "tokenize", "encode",
         "train", "sweep", "validate", "config", "inspect", "report", "watch", "env"]


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


if __name__ == "__main__":
    unittest.main()
