#!/usr/bin/env python3
"""Sweeps on two ranks: killed and continued they find the same numbers, and a trial that fails is alone.

Usage: sweep_test.py MHA2MLA_BINARY MPIEXEC SOURCE_DIR
"""
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "cli"))
import support

BINARY, MPIEXEC, SOURCE = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
STRATEGIES = """
base: config.yaml
sweep:
  set: {tokens.train_steps: 3, checkpoints.checkpoint_interval: 1}
  grid: {mla.rope.strategy: [high, 2-norm], mla.latent.method: [joint, split]}
  budget: {cache_ratio: 0.41667}  # 10 of 24 numbers per kv head
  baseline: true
"""
CALIBRATIONS = """
base: config.yaml
sweep:
  set: {tokens.train_steps: 2}
  grid: {mla.calibration.data: [missing.ds, train.ds]}
"""
MEASURED = ("id", "cache_bytes_per_token", "parameters", "steps", "tokens", "validation", "state", "exit_code")


class SweepTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.out = self.folder / "runs"
        shard = support.write_shard(self.folder / "train.ds")
        support.write_config(self.folder / "config.yaml", SOURCE, shard, self.out)

    def command(self, name, text, ranks=2, options=()):
        path = self.folder / f"{name}.yaml"
        path.write_text(text)
        return [*support.mpirun(ranks, MPIEXEC), BINARY, "sweep", str(path), *options]

    def sweep(self, *arguments, code=0, **keys):
        done = support.run(self.command(*arguments, **keys), timeout=300)
        self.assertEqual(done.returncode, code, done.stdout[-3000:] + done.stderr[-3000:])
        return done

    def report(self, name):
        return json.loads((self.out / "test" / name / "sweep.json").read_text())

    def measured(self, name):
        return [{key: row[key] for key in MEASURED} for row in self.report(name)["trials"]]

    def kill_when(self, command, happened):
        """kill -9 of mpirun; its ranks follow."""
        process = subprocess.Popen(command, env=support.environment(), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            limit = time.time() + 120
            while not happened() and process.poll() is None and time.time() < limit:
                time.sleep(0.01)
            self.assertIsNone(process.poll(), "the sweep was over before the kill")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def expect_interrupted(self, command):
        """The ranks follow mpirun within a moment; who never had a run.lock counts as running."""
        limit = time.time() + 30
        while True:
            done = support.run([*command[command.index(BINARY):], "--list", "--json"])
            states = [row["state"] for row in json.loads(done.stdout)["trials"]]
            if "interrupted" in states or time.time() > limit:
                return self.assertIn("interrupted", states)
            time.sleep(0.05)

    def test_killed_and_continued_is_undisturbed(self):
        self.sweep("strategies", STRATEGIES)
        want = self.measured("strategies")
        self.assertEqual([row["state"] for row in want], ["done"] * 5)
        self.assertEqual([row["cache_bytes_per_token"]["after"] for row in want[1:]], [80] * 4)
        shared = list((self.out / "test/strategies/shared").glob("*.json"))
        self.assertEqual(len(shared), 3, "one calibration, one loss and one validation of the source")
        rows = (self.out / "test/strategies/sweep.csv").read_text().splitlines()
        self.assertEqual(len(rows), 6)

        shutil.rmtree(self.out)
        folder = self.out / "test/strategies"
        command = self.command("strategies", STRATEGIES)
        self.kill_when(command, lambda: any(folder.glob("*/checkpoints/step-*")))
        self.expect_interrupted(command)
        self.kill_when(command, lambda: any(folder.glob("*/result.json")))
        results = {path: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}
        self.sweep("strategies", STRATEGIES)
        self.assertEqual(self.measured("strategies"), want)
        for path, time_of_result in results.items():
            self.assertEqual(path.stat().st_mtime_ns, time_of_result, "what was done must not be done again")

    def test_a_trial_that_fails_is_alone(self):
        done = self.sweep("calibrations", CALIBRATIONS, code=66)
        self.assertIn("expected 2 done, got 1 done, 1 failed", done.stderr)
        failed, good = self.measured("calibrations")
        self.assertEqual((failed["state"], failed["exit_code"], good["state"]), ("failed", 66, "done"))
        self.assertIn("missing.ds", self.report("calibrations")["trials"][0]["message"])
        listed = self.sweep("calibrations", CALIBRATIONS, ranks=1, options=("--list",)).stdout
        self.assertIn("failed", listed)

        support.write_shard(self.folder / "missing.ds", seed=2)
        self.sweep("calibrations", CALIBRATIONS)
        self.assertEqual([row["state"] for row in self.measured("calibrations")], ["done", "done"])

    def test_fail_fast_leaves_the_rest(self):
        self.sweep("calibrations", CALIBRATIONS, ranks=1, code=66, options=("--fail-fast",))
        self.assertEqual([row["state"] for row in self.measured("calibrations")], ["failed", "waiting"])

    def test_the_shipped_sweep_has_its_trials(self):
        done = support.run([BINARY, "sweep", SOURCE / "configs/sweeps/strategies-tiny.yaml", "--list", "--json",
                            f"general.output_dir={self.out}"])
        self.assertEqual(done.returncode, 0, done.stderr)
        trials = json.loads(done.stdout)["trials"]
        self.assertEqual([row["cache_percent"] for row in trials], [100.0] + [18.75] * 8)
        self.assertEqual(len({row["id"] for row in trials}), 9)

    def test_groups_of_ranks_give_the_same_numbers(self):
        only = ("--only", "rope=high", "--only", "method=joint")
        self.sweep("strategies", STRATEGIES, ranks=1, options=only)
        want = self.measured("strategies")[1]
        shutil.rmtree(self.out)
        wide = STRATEGIES + "  ranks_per_trial: 2\n"
        refused = self.sweep("strategies", wide, ranks=1, code=78)
        self.assertIn("a multiple of sweep.ranks_per_trial, 2, got 1", refused.stderr)
        self.sweep("strategies", wide, options=only)
        self.assertEqual(self.measured("strategies")[1], want)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
