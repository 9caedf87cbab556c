"""Whatever is wrong with its input, the program says so in one line, with the right exit code, and leaves
nothing half-written: damaged models, shards and tokenizers, options out of range, full and unwritable
disks, locked runs, corrupt checkpoints, changed configurations, divergence.

  wrong_input_test.py PROGRAM SOURCE_FOLDER [unittest arguments]

A case is a function that makes the wrong input and returns the command; @refused states the exit code and
what the line must contain: file, field, expected, found, hint. SHOW_MESSAGES=1 prints all lines.
"""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
import support

PROGRAM = Path(sys.argv.pop(1)).resolve()
SOURCE = Path(sys.argv.pop(1)).resolve()
MODEL = SOURCE / support.MODEL
TOKENIZER = SOURCE / "examples/tiny-llama"
USAGE, BAD_DATA, MISSING, LOCKED, IO, NO_CHECKPOINT, PERMISSION, BAD_CONFIG, NUMERICAL = (
    64, 65, 66, 73, 74, 76, 77, 78, 79)
CRASH = ["terminate called", "Segmentation", "Aborted", "signal", "Sanitizer", "HDF5-DIAG"]
AS_ROOT = os.geteuid() == 0


def tree(folder):
    """Every file below with its bytes, every folder with None."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
            for p in sorted(folder.rglob("*"))}


def names_but_of(pid, folder):
    """Every path below, but what process pid is just writing."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix != f".{pid}"}


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


class WrongInput(unittest.TestCase):
    """In a folder of its own: train.ds, run.yaml (which trains into runs/test/bits), and on request more."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="mha2mla-wrong-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.shard = support.write_shard(self.folder / "train.ds")
        self.run_folder = self.folder / "runs/test/bits"
        self.checkpoints = self.run_folder / "checkpoints"
        self.config = support.write_config(self.folder / "run.yaml", SOURCE, self.shard,
                                           self.folder / "runs")

    def run_program(self, *arguments, launcher=()):
        return support.run([*launcher, PROGRAM, *arguments], self.folder, threads=1)

    def train(self, *overrides):
        done = self.run_program("train", self.config, *overrides)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def assert_refused(self, done, code, parts):
        """The code, one line with "error:" that holds every part - beside warnings - and no sign of a crash."""
        self.assertEqual(done.returncode, code, done.stderr)
        lines = [line for line in done.stderr.splitlines() if "error:" in line and not line.startswith("warning:")]
        self.assertEqual(len(lines), 1, done.stderr)
        for part in parts:
            self.assertIn(part, lines[0])
        for sign in CRASH:
            self.assertNotIn(sign, done.stdout + done.stderr)
        if os.environ.get("SHOW_MESSAGES"):
            print(f"{self._testMethodName[5:]} | {code} | {lines[0].replace(self.folder.name, 'F')}")
        return lines[0]

    def assert_nothing_half_written(self):
        left = [name for name in tree(self.folder) if ".tmp" in name or ".trash" in name]
        self.assertEqual(left, [])

    def steps(self):
        return sorted(int(p.name.removeprefix("step-")) for p in self.checkpoints.glob("step-*"))

    def copy_model(self):
        """A copy of the model to damage, with only what the program reads."""
        model = self.folder / "model"
        model.mkdir()
        for name in ["config.json", "model.safetensors"]:
            shutil.copyfile(MODEL / name, model / name)
        return model

    def damaged_model(self, change):
        """A model whose safetensors header went through change(header, data) -> (header, data)."""
        model = self.copy_model()
        weights = model / "model.safetensors"
        support.write_safetensors(weights, *change(*support.read_safetensors(weights)))
        return model

    def model_with(self, **settings):
        model = self.copy_model()
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | settings))
        return model

    def eval(self, model, *more):
        return ["eval", model, "--data", self.shard, "--sequence-length", "16", "--json", *more]

    def convert(self, *options):
        return ["convert", MODEL, "--out", "converted", *options]


def refused(code, *parts):
    """Makes of a function that returns a command the test that the command is refused, and changes no file."""
    def decorate(make_command):
        def test(self):
            command = make_command(self)
            before = tree(self.folder)
            done = self.run_program(*command)
            self.assert_refused(done, code, parts)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertEqual(done.stdout, "")
            self.assertEqual(tree(self.folder), before)
        return test
    return decorate


class CommandLine(WrongInput):
    @refused(USAGE, "verb: expected", "train", 'got "trian"', "did you mean train?")
    def test_unknown_verb(self):
        return ["trian", "run.yaml"]

    @refused(USAGE, "mha2mla eval: error:", "--max-window: unknown option", "did you mean --max-windows?")
    def test_unknown_flag(self):
        return self.eval(MODEL, "--max-window", "3")


class Configuration(WrongInput):
    @refused(BAD_CONFIG, "run.yaml:10:", "tokens.train_step: expected a key",
             "did you mean 'tokens.train_steps'?")
    def test_misspelt_key(self):
        self.config.write_text(self.config.read_text().replace("train_steps", "train_step"))
        return ["train", self.config]

    @refused(MISSING, "absent.yaml", "expected an existing file", "No such file", "check the path")
    def test_no_configuration(self):
        return ["train", "absent.yaml"]

    @refused(MISSING, "absent: error: MODEL: expected config.json with *.safetensors", "got nothing",
             "give the folder")
    def test_no_model(self):
        return ["train", self.config, "model.init_from=absent"]

    @refused(MISSING, "train.ds: error: dataset: expected a .ds file", "got nothing", "mha2mla tokenize")
    def test_no_shard(self):
        self.shard.unlink()
        return ["train", self.config]

    @refused(BAD_CONFIG, "run.yaml: error: mla.latent.latent_dims_per_kv_head: expected 1 to 20, got 1000")
    def test_latent_out_of_range(self):
        return ["train", self.config, "mla.latent.latent_dims_per_kv_head=1000"]

    @refused(BAD_CONFIG, "run.yaml: error: mla.rope.rope_pairs_per_head: expected 1 to 6", "got 7")
    def test_pairs_out_of_range(self):
        return ["train", self.config, "mla.rope.rope_pairs_per_head=7"]

    @refused(BAD_CONFIG, "run.yaml: error: mla.rope.rope_pairs_per_head: expected a divisor of 6", "uniform",
             "got 4")
    def test_pairs_that_do_not_divide(self):
        return ["train", self.config, "mla.rope.strategy=uniform", "mla.rope.rope_pairs_per_head=4"]

    @refused(BAD_CONFIG, "run.yaml: error: mla.rope.uniform_start: expected 0 to 2, got 3")
    def test_uniform_start_out_of_range(self):
        return ["train", self.config, "mla.rope.strategy=uniform", "mla.rope.uniform_start=3"]

    @refused(BAD_CONFIG, "mla.latent.method: expected joint or none with mla.rope.strategy full, got split")
    def test_split_with_full(self):
        return ["train", self.config, "mla.rope.strategy=full", "mla.latent.method=split"]

    def test_more_ranks_than_shards_of_the_gradient(self):
        done = self.run_program("train", self.config, "parallelism.reduction_shards=2",
                                launcher=support.mpirun(4))
        self.assert_refused(done, BAD_CONFIG, ["run.yaml: error: parallelism.reduction_shards: expected",
                                               "ranks, 4, got 2", "at most 2 ranks"])
        self.assertFalse((self.folder / "runs").exists())


class Conversion(WrongInput):
    @refused(BAD_CONFIG, "latent_dims_per_kv_head: expected 1 to 20, got 1000")
    def test_latent_out_of_range(self):
        return self.convert("--rope", "high", "--rope-pairs", "2", "--latent-dims", "1000")

    @refused(BAD_CONFIG, "rope_pairs_per_head: expected 1 to 6", "got 7")
    def test_pairs_out_of_range(self):
        return self.convert("--rope", "high", "--rope-pairs", "7", "--latent-dims", "5")

    @refused(BAD_CONFIG, "rope_pairs_per_head: expected a divisor of 6", "uniform", "got 4")
    def test_pairs_that_do_not_divide(self):
        return self.convert("--rope", "uniform", "--rope-pairs", "4", "--latent-dims", "5")

    @refused(BAD_CONFIG, "uniform_start: expected 0 to 2, got 3")
    def test_uniform_start_out_of_range(self):
        return self.convert("--rope", "uniform", "--rope-pairs", "2", "--uniform-start", "3",
                            "--latent-dims", "5")

    @refused(BAD_CONFIG, "latent.method: expected joint or none", "got split", "full")
    def test_split_with_full(self):
        return self.convert("--rope", "full", "--latent", "split", "--latent-dims", "5")

    @refused(BAD_CONFIG, "rope.strategy: expected calibration statistics with 2-norm, got none", "--stats")
    def test_two_norm_without_calibration(self):
        return self.convert("--rope", "2-norm", "--rope-pairs", "2", "--latent-dims", "5")

    @refused(BAD_CONFIG, "stats.safetensors: error: model_hash: expected", "(this model), got",
             "mha2mla calibrate")
    def test_statistics_of_another_model(self):
        other = self.damaged_model(lambda header, data: (header, bytes([data[0] ^ 1]) + data[1:]))
        done = self.run_program("calibrate", other, "--data", self.shard, "--sequence-length", "16",
                                "--max-windows", "8", "--out", "stats.safetensors")
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.convert("--rope", "2-norm", "--rope-pairs", "2", "--latent-dims", "5", "--stats",
                            "stats.safetensors")


class Export(WrongInput):
    """Out to Hugging Face folders, and in again."""

    def converted(self, *options):
        done = self.run_program(*self.convert(*options))
        self.assertEqual(done.returncode, 0, done.stderr)
        return "converted"

    def exported(self):
        """A folder of layout v1 whose pairs 2-norm chose."""
        model = self.converted("--rope-pairs", "2", "--latent-dims", "5", "--data", self.shard)
        done = self.run_program("export", model, "--layout", "v1", "--out", "hf")
        self.assertEqual(done.returncode, 0, done.stderr)
        return self.folder / "hf"

    def change_config(self, folder, change):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))
        return self.eval(folder)

    @refused(USAGE, "--layout: expected v1 or v2 with --format hf, got nothing")
    def test_no_layout(self):
        return ["export", MODEL, "--out", "hf"]

    @refused(USAGE, "--layout: expected nothing with --format dense, got v1")
    def test_layout_of_dense(self):
        return ["export", MODEL, "--format", "dense", "--layout", "v1", "--out", "hf"]

    @refused(LOCKED, "hf: error: --out: expected a new name, got one that exists")
    def test_existing_folder(self):
        (self.folder / "hf").mkdir()
        (self.folder / "hf/mine.txt").write_text("mine")
        return ["export", MODEL, "--format", "dense", "--out", "hf"]

    @refused(BAD_CONFIG, "llama-gqa-tied: error: model: expected a converted one for layout v2", "--format dense")
    def test_unconverted_as_hf(self):
        return ["export", MODEL, "--layout", "v2", "--out", "hf"]

    @refused(BAD_CONFIG, "converted: error: rotary pairs: expected 1 to 5 per head for layout v2, got 6",
             "layout v1 takes none and all")
    def test_full_rope_in_the_later_layout(self):
        model = self.converted("--rope", "full", "--latent-dims", "12")
        return ["export", model, "--layout", "v2", "--out", "hf"]

    @refused(BAD_CONFIG, "converted:layer 0: error: rotary pairs: expected all 6 of each head, got 2", "--format hf")
    def test_partial_rope_as_dense(self):
        model = self.converted("--rope", "high", "--rope-pairs", "2", "--latent-dims", "5")
        return ["export", model, "--format", "dense", "--out", "hf"]

    @refused(MISSING, "hf: error: qk_tensor_path: expected the file that chose the 2-norm pairs, in this folder",
             "no qk_tensor.pth", "copy the file")
    def test_no_file_of_pairs(self):
        folder = self.exported()
        (folder / "qk_tensor.pth").unlink()
        return self.change_config(folder, lambda config: config.pop("kept_pairs"))

    @refused(BAD_DATA, "qk_tensor.pth: error: 2-norm pairs: expected those of kept_pairs in config.json, got others")
    def test_pairs_that_disagree(self):
        def change(config):
            config["kept_pairs"][0][0] = "0,1" if config["kept_pairs"][0][0] != "0,1" else "0,2"
        return self.change_config(self.exported(), change)

    @refused(BAD_DATA, "config.json: error: kept_pairs: expected 2 ascending pairs below 6", 'got "1,0"')
    def test_pairs_that_descend(self):
        return self.change_config(self.exported(), lambda config: config["kept_pairs"][1].__setitem__(1, "1,0"))

    @refused(BAD_DATA, "qk_tensor.pth", "expected", "zip archive")
    def test_damaged_file_of_pairs(self):
        folder = self.exported()
        flip_byte(folder / "qk_tensor.pth")
        return self.eval(folder)

    @refused(BAD_DATA, "config.json: error: RoPE.partial_rope_version: expected 0 to 5, got 6")
    def test_unknown_strategy(self):
        return self.change_config(self.exported(), lambda config: config["RoPE"].update(partial_rope_version=6))

    @refused(BAD_DATA, "config.json: error: mha2mla.svd_init_method: expected joint, split or none, got only_key")
    def test_unknown_method(self):
        def change(config):
            del config["RoPE"], config["SVD"]
            config["mha2mla"] = {"partial_rope_version": "high", "rope_dim_for_mla": 4, "low_rank": 5,
                                 "svd_init_method": "only_key"}
        return self.change_config(self.exported(), change)

    @refused(BAD_DATA, "W_down_k.weight: error: shape: expected [12, 48], got [10, 48]")
    def test_latent_of_another_width(self):
        return self.change_config(self.exported(), lambda config: config["SVD"].update(low_rank=6))


class Models(WrongInput):
    @refused(MISSING, "absent", "expected", "got")
    def test_no_model(self):
        return self.eval("absent")

    @refused(BAD_DATA, "model: error: tensors: expected", "got missing", "model.layers.1.mlp.up_proj.weight")
    def test_missing_tensor(self):
        def remove(header, data):
            entry = header.pop("model.layers.1.mlp.up_proj.weight")
            begin, end = entry["data_offsets"]
            for other in header.values():
                offsets = other.get("data_offsets")
                if offsets and offsets[0] >= end:
                    other["data_offsets"] = [offset - (end - begin) for offset in offsets]
            return header, data[:begin] + data[end:]
        return self.eval(self.damaged_model(remove))

    @refused(BAD_DATA, "model.safetensors:byte ", "data section: expected 167040 bytes", "got 166040")
    def test_truncated(self):
        return self.eval(self.damaged_model(lambda header, data: (header, data[:-1000])))

    @refused(BAD_DATA, "model.safetensors:byte 0: error: header length: expected 2 to 492", "got")
    def test_truncated_header(self):
        model = self.copy_model()
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:500])
        return self.eval(model)

    @refused(BAD_DATA, "model.safetensors:model.", "data_offsets: expected begin", "got", "overlap")
    def test_overlapping_offsets(self):
        def overlap(header, data):
            by_place = sorted((entry["data_offsets"], name) for name, entry in header.items()
                              if name != "__metadata__")
            (begin, end), name = by_place[1]
            header[name]["data_offsets"] = [begin - 64, end - 64]
            return header, data
        return self.eval(self.damaged_model(overlap))

    @refused(BAD_DATA, "config.json: error: sliding_window: expected", "got 32")
    def test_sliding_window(self):
        return self.eval(self.model_with(architectures=["MistralForCausalLM"], model_type="mistral",
                                         sliding_window=32))

    @refused(BAD_DATA, "config.json", "rope_type", "expected default", "longrope")
    def test_rope_type(self):
        return self.eval(self.model_with(rope_scaling={"rope_type": "longrope", "factor": 4.0}))

    @refused(BAD_CONFIG, "mla.latent.method: expected none for a model with QK-norm, got joint")
    def test_qk_norm(self):
        return ["convert", SOURCE / "tests/data_files/qwen3", "--out", "converted", "--rope", "high",
                "--rope-pairs", "2", "--latent-dims", "8"]

    @refused(BAD_DATA, "model.safetensors", "model.norm.weight", "dtype: expected F32, BF16 or F16, got F8_E4M3")
    def test_dtype_that_weights_cannot_have(self):
        def shrink(header, data):
            entry = header["model.norm.weight"]  # the last one: 48 bytes instead of 192
            begin, end = entry["data_offsets"]
            self.assertEqual(end, len(data))
            entry |= {"dtype": "F8_E4M3", "data_offsets": [begin, begin + 48]}
            return header, data[:begin + 48]
        return self.eval(self.damaged_model(shrink))

    @refused(BAD_DATA, "model.safetensors", "model.norm.weight", "dtype: expected", 'got "F31"')
    def test_unknown_dtype(self):
        def rename(header, data):
            header["model.norm.weight"]["dtype"] = "F31"
            return header, data
        return self.eval(self.damaged_model(rename))


class Texts(WrongInput):
    def tokenize(self, tokenizer, text):
        return ["tokenize", "--tokenizer", tokenizer, "--out", "made", text]

    @refused(MISSING, "absent", "expected an existing file", "No such file", "check the path")
    def test_no_tokenizer(self):
        (self.folder / "text.jsonl").write_text('{"text": "fine"}\n')
        return self.tokenize("absent", "text.jsonl")

    @refused(MISSING, "absent.jsonl", "expected an existing file", "No such file", "check the path")
    def test_no_text(self):
        return self.tokenize(TOKENIZER, "absent.jsonl")

    @refused(BAD_DATA, "tokenizer.json", "expected", "got")
    def test_corrupt_tokenizer(self):
        (self.folder / "text.jsonl").write_text('{"text": "fine"}\n')
        content = (TOKENIZER / "tokenizer.json").read_bytes()
        (self.folder / "tokenizer.json").write_bytes(content[:len(content) // 2])
        return self.tokenize("tokenizer.json", "text.jsonl")

    @refused(BAD_DATA, "text.jsonl:2", "expected", "UTF-8", "got")
    def test_invalid_utf8(self):
        (self.folder / "text.jsonl").write_bytes(b'{"text": "fine"}\n{"text": "b\xffd"}\n')
        return self.tokenize(TOKENIZER, "text.jsonl")


class Shards(WrongInput):
    def put_id_beyond_the_vocabulary(self):
        content = bytearray(self.shard.read_bytes())
        content[200:202] = (97).to_bytes(2, "little")
        self.shard.write_bytes(content)

    @refused(MISSING, "absent.ds", "mha2mla tokenize")
    def test_no_shard(self):
        return ["eval", MODEL, "--data", "absent.ds"]

    @refused(BAD_DATA, "train.ds: error: size: expected tokens, got an empty shard", "tokenize again")
    def test_empty_for_eval(self):
        self.shard.write_bytes(b"")
        return self.eval(MODEL)

    @refused(BAD_DATA, "train.ds: error: size: expected tokens, got an empty shard", "tokenize again")
    def test_empty_for_train(self):
        self.shard.write_bytes(b"")
        return ["train", self.config]

    @refused(BAD_DATA, "train.ds:token 100: error: token id: expected less than the vocabulary size 97",
             "got 97", "tokenizer")
    def test_id_beyond_the_vocabulary_for_eval(self):
        self.put_id_beyond_the_vocabulary()
        return self.eval(MODEL)

    @refused(BAD_DATA, "train.ds:token 100: error: token id: expected less than the vocabulary size 97",
             "got 97", "tokenizer")
    def test_id_beyond_the_vocabulary_for_train(self):
        self.put_id_beyond_the_vocabulary()
        return ["train", self.config]

    @refused(BAD_DATA, "train.ds: error: tokens: expected at least 5000", "got 3000")
    def test_shorter_than_a_sequence_for_eval(self):
        return ["eval", MODEL, "--data", self.shard, "--sequence-length", "5000"]

    @refused(BAD_DATA, "train.ds: error: tokens: expected at least 5001", "got 3000")
    def test_shorter_than_a_sequence_for_train(self):
        return ["train", self.config, "tokens.sequence_length=5000"]


class RunFolder(WrongInput):
    @refused(IO, "runs", "general.output_dir", "expected a folder", "got a file", "general.output_dir")
    def test_parent_is_a_file(self):
        (self.folder / "runs").write_text("in the way")
        return ["train", self.config]

    def test_folder_that_nobody_can_make(self):
        done = self.run_program("train", self.config, "general.output_dir=/proc/nope")
        self.assertIn(done.returncode, [IO, PERMISSION])
        self.assert_refused(done, done.returncode, ["/proc", "expected", "got", "general.output_dir"])

    def test_folder_of_somebody_else(self):
        (self.folder / "runs").mkdir()
        (self.folder / "runs").chmod(0o555)
        self.folder.chmod(0o755)
        user = {"user": 65534, "group": 65534, "extra_groups": []} if AS_ROOT else {}
        if AS_ROOT and subprocess.run(["test", "-x", str(PROGRAM), "-a", "-r", str(MODEL / "config.json")],
                                      **user).returncode != 0:
            self.skipTest("only root may run this program and read its data files")
        done = subprocess.run([str(PROGRAM), "train", str(self.config)], cwd=self.folder, timeout=120,
                              env=support.environment(1), capture_output=True, text=True, **user)
        self.assert_refused(done, PERMISSION, ["runs: error: write into: expected permission", "got",
                                               "another path"])

    def test_locked(self):
        command = [str(PROGRAM), "train", str(self.config), "tokens.train_steps=1000000",
                   "tokens.val_check_interval=0", "checkpoints.checkpoint_interval=1000000"]
        first = subprocess.Popen(command, env=support.environment(1), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        try:
            status = self.run_folder / "status.json"
            deadline = time.monotonic() + 60
            while not (status.exists() and '"training"' in status.read_text()):
                self.assertIsNone(first.poll())
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
            before = names_but_of(first.pid, self.run_folder)
            done = self.run_program("train", self.config)
            self.assert_refused(done, LOCKED, ["run.lock", socket.gethostname(), f"pid {first.pid}",
                                               "expected no other process", "general.run"])
            self.assertEqual(names_but_of(first.pid, self.run_folder), before)
        finally:
            first.kill()
            first.wait()


class Resume(WrongInput):
    def assert_run_unchanged(self, code, parts, *overrides):
        before = tree(self.checkpoints)
        done = self.run_program("train", self.config, *overrides)
        self.assert_refused(done, code, parts)
        self.assertEqual(tree(self.checkpoints), before)
        return done

    def test_all_checkpoints_corrupt(self):
        self.train("tokens.train_steps=4")
        for path in self.checkpoints.glob("step-*/*.h5"):
            flip_byte(path)
        for _ in range(2):  # not only the first time: nothing may start anew in their place
            self.assert_run_unchanged(NO_CHECKPOINT, ["checkpoints", "expected a valid one", "none",
                                                      "hash", "another run name"])

    def test_newest_checkpoint_corrupt(self):
        self.train()
        sound = {p.name: p.read_bytes() for p in self.checkpoints.glob("step-000000006/*.h5")}
        flip_byte(next(self.checkpoints.glob("step-000000006/*.h5")))
        done = self.train()
        self.assertIn("step-000000006 is invalid", done.stdout + done.stderr)
        self.assertIn("resumed from", done.stdout + done.stderr)
        self.assertIn("step-000000004", done.stdout + done.stderr)
        self.assertEqual(self.steps(), [2, 4, 6])
        again = {p.name: p.read_bytes() for p in self.checkpoints.glob("step-000000006/*.h5")}
        self.assertEqual(again, sound)

    def test_changed_configuration(self):
        self.train("tokens.train_steps=2")
        self.assert_run_unchanged(BAD_CONFIG, ["run.yaml: error: resume: expected", "got optimizer.clip_grad: 1",
                                               "-> 0.5;", "general.run"],
                                  "optimizer.clip_grad=0.5")

    def test_other_data_under_the_same_name(self):
        self.train("tokens.train_steps=2")
        support.write_shard(self.shard, seed=2)
        self.assert_run_unchanged(BAD_CONFIG, ["step-000000002:data/fingerprint: error:", "expected what this run",
                                               "got another value", "restore", "the training data"])

    def test_divergence(self):
        self.train("tokens.train_steps=1", *self.wild())
        before = tree(self.checkpoints)
        done = self.run_program("train", self.config, *self.wild(), "tokens.train_steps=400")
        line = self.assert_refused(done, NUMERICAL, ["expected finite", "learning"])
        self.assertRegex(line, r"step \d+: error: (gradient of \w+[\w.]*|loss): expected")
        after = tree(self.checkpoints)
        self.assertEqual({name: after[name] for name in before if "step-" in name},
                         {name: before[name] for name in before if "step-" in name})
        self.assert_nothing_half_written()

    def wild(self):
        """A step is a ratio of moments; without the second moment's memory it has no bound."""
        return ["optimizer.learning_rate_scheduler.learning_rate=1", "optimizer.clip_grad=0",
                "optimizer.optimizer_factory.adam_beta2=0", "optimizer.optimizer_factory.adam_eps=1.0e-30",
                "optimizer.learning_rate_scheduler.lr_decay_starting_step=0", "checkpoints.checkpoint_interval=2"]


class DiskFull(WrongInput):
    @contextlib.contextmanager
    def small_disk(self, options):
        disk = self.folder / "disk"
        disk.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)],
                              capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest(f"no file system of a few MiB can be mounted here: {done.stderr.strip()}")
        try:
            yield disk
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def assert_survives(self, disk, fill):
        """Full while a later checkpoint is saved; once there is room the same command finishes."""
        self.checkpoints = disk / "test/bits/checkpoints"
        command = ["train", self.config, f"general.output_dir={disk}"]
        self.train(*command[2:], "tokens.train_steps=2")
        before = tree(self.checkpoints / "step-000000002")
        ballast = fill(disk)
        done = self.run_program(*command)
        self.assert_refused(done, IO, ["checkpoints/", "step-", "expected", "free disk space and run the same"])
        self.assert_nothing_half_written()
        self.assertIn(2, self.steps())
        self.assertNotIn(6, self.steps())
        for path in ballast:
            path.unlink()
        done = self.run_program(*command)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("resumed from", done.stdout + done.stderr)
        self.assertEqual(self.steps(), [2, 4, 6])
        self.assertEqual(tree(self.checkpoints / "step-000000002"), before)

    def test_no_bytes_left(self):
        def fill(disk):
            """Room for the next checkpoint and the fifth that it must leave, not for the one after."""
            each = sum(len(content or b"") for content in tree(self.checkpoints / "step-000000002").values())
            (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - each * 8 // 5))
            return [disk / "ballast"]
        with self.small_disk("size=8m") as disk:
            self.assert_survives(disk, fill)

    def test_no_inodes_left(self):
        def fill(disk):
            """Bytes enough, but beside its event file only a checkpoint's folder and first file can be made."""
            free = os.statvfs(disk).f_ffree
            ballast = [disk / f"ballast{i}" for i in range(free - 3)]
            for path in ballast:
                path.touch()
            return ballast
        with self.small_disk("size=8m,nr_inodes=100") as disk:
            self.assert_survives(disk, fill)


if __name__ == "__main__":
    unittest.main(verbosity=2)  # which tells why a case was skipped
