"""What the tests of wrong input share: a folder with a shard and a configuration, and what a refusal is.

A case is a function that makes the wrong input and returns the command; @refused states the exit code and
what the line must contain: file, field, expected, found, hint. SHOW_MESSAGES=1 prints all lines.
"""
import json
import os
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
import support
from support import BAD_CONFIG, BAD_DATA, IO, LOCKED, MISSING, NO_CHECKPOINT, NUMERICAL, PERMISSION, USAGE

PROGRAM = Path(sys.argv.pop(1)).resolve()
SOURCE = Path(sys.argv.pop(1)).resolve()
MODEL = SOURCE / support.MODEL
TOKENIZER = SOURCE / "examples/tiny-llama"
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
