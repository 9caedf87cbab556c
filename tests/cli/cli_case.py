"""What the tests of the program from outside share: a folder for each, and how it is run and refuses."""
import gzip
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import BAD_CONFIG, BAD_DATA, IO, MISSING, PERMISSION, PREEMPTED, USAGE

PROGRAM = sys.argv.pop(1)
SOURCE = Path(sys.argv.pop(1))
DATA = SOURCE / "tests" / "data_files"
TINY = SOURCE / "examples" / "tiny-llama"


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
