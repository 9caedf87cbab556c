"""Verbs at work: a run that is watched, and verbs that are told to stop.

  run_test.py PROGRAM SOURCE_FOLDER [unittest arguments]
"""
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
import support
from cli_case import PROGRAM, DATA, TINY, PREEMPTED, CliTest


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
