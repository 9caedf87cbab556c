#!/usr/bin/env python3
"""scripts/mha2mla-run: signals become checkpoints, what can be restarted is, the exit code is the reason.

Usage: launch_wrapper_test.py MHA2MLA_BINARY SOURCE_DIR
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import support

PROGRAM, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
WRAPPER = SOURCE / "scripts/mha2mla-run"
LONG = "tokens.train_steps=100000"


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


class LaunchWrapper(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        shard = support.write_shard(self.folder / "train.ds")
        self.config = support.write_config(self.folder / "config.yaml", SOURCE, shard, self.folder / "runs")
        self.run_folder = self.folder / "runs/test/bits"

    def start(self, *arguments, ranks=1, environment=None):
        command = [WRAPPER, "-np", ranks, "--program", PROGRAM, "--backoff", "0", *arguments]
        process = subprocess.Popen([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, env=dict(support.environment(1), **(environment or {})))
        self.addCleanup(process.kill)
        return process

    def end(self, process, timeout=60):
        output, errors = process.communicate(timeout=timeout)
        return process.returncode, output, errors

    def status(self):
        try:
            return json.loads((self.run_folder / "status.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def wait_for(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.02)
        self.fail("what the test waits for did not happen")

    def wait_until_training(self, step=4):
        self.wait_for(lambda: self.status().get("state") == "training" and self.checkpoints() >= [step])

    def checkpoints(self):
        return sorted(int(p.name[5:]) for p in (self.run_folder / "checkpoints").glob("step-*"))

    def ranks(self):
        """Processes of this test's program."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].decode() == PROGRAM and str(self.config).encode() in words:
                found.append(int(entry.parent.name))
        return found

    def test_a_finished_run_is_0(self):
        code, output, errors = self.end(self.start(self.config, "--json", ranks=2))
        self.assertEqual(code, 0, errors)
        self.assertEqual(json.loads(output)["steps"], 6)
        self.assertEqual(self.status()["state"], "done")
        if os.getuid() != 0:
            self.assertNotIn("AS_ROOT", errors)

    def test_wrong_arguments_start_nothing(self):
        for arguments, word in ((["--np", "2"], "unknown option"), (["--backoff"], "a value is missing"),
                                (["-np", "0"], "at least 1"), (["-np", "two"], "whole number"), ([], "got nothing")):
            process = subprocess.run([WRAPPER, "--program", PROGRAM, *arguments], capture_output=True, text=True)
            self.assertEqual(process.returncode, 64)
            self.assertIn(word, process.stderr)
        code, _, errors = self.end(self.start(self.config, "tokens.train_stepz=3"))
        self.assertEqual(code, 78)
        self.assertIn("train_stepz", errors)
        self.assertFalse(self.run_folder.exists())

    def test_a_refused_run_is_not_restarted(self):
        (self.folder / "train.ds").write_bytes(b"x")
        code, _, errors = self.end(self.start(self.config))
        self.assertEqual(code, 65, errors)
        self.assertNotIn("restart", errors)

    def test_term_saves_and_is_not_restarted(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            process = self.start(self.config, LONG, ranks=2)
            before = (self.checkpoints() or [0])[-1]
            self.wait_until_training(before + 2)
            process.send_signal(number)
            code, _, errors = self.end(process)
            self.assertEqual(code, 75, errors)
            status = self.status()
            self.assertEqual((status["state"], status["exit_code"]), ("preempted", 75))
            self.assertEqual(status["step"], self.checkpoints()[-1], "every step done is saved")
            self.assertNotIn("restart", errors)
            self.assertEqual(self.ranks(), [])

    def test_user_signal_2_saves_and_goes_on(self):
        process = self.start(self.config, LONG, "checkpoints.checkpoint_interval=1000000")
        self.wait_for(lambda: self.status().get("state") == "training")
        process.send_signal(signal.SIGUSR2)
        self.wait_for(self.checkpoints)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(self.end(process)[0], 75)

    def test_the_second_interrupt_ends_at_once(self):
        process = self.start(self.config, LONG, ranks=2,
                             environment={"MHA2MLA_FAILPOINT": "step.end=sleep:60000@4"})
        self.wait_for(lambda: self.status().get("step", 0) >= 1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.end(process)[0], 130)
        self.assertLess(time.monotonic() - start, 5)
        self.wait_for(lambda: not self.ranks(), 5)

    def test_a_killed_rank_is_restarted_and_the_run_ends_well(self):
        # Rank 1 dies before step 6; that of step 2 is durable by then, so the second process has fewer to do.
        code, _, errors = self.end(self.start(self.config, ranks=2, environment={
            "MHA2MLA_FAILPOINT": "step.begin=kill@6", "MHA2MLA_FAILPOINT_RANK": "1"}))
        self.assertEqual(code, 0, errors)
        self.assertIn("ended with 137", errors)
        self.assertIn("restart 1 of 5", errors)
        self.assertEqual(self.checkpoints()[-1], 6)

    def test_restarts_without_progress_have_an_end(self):
        code, _, errors = self.end(self.start("--max-restarts", "2", self.config, environment={
            "MHA2MLA_FAILPOINT": "step.begin=kill"}))
        self.assertEqual(code, 137, errors)
        self.assertEqual(errors.count(": restart "), 2)
        self.assertIn("2 in a row without a new checkpoint", errors)

    def test_max_time_is_restarted_and_a_trigger_file_is_not(self):
        process = self.start(self.config, LONG, "general.max_time=1s")
        self.wait_for(lambda: self.status().get("reason") == "max_time")
        first = self.checkpoints()[-1]
        self.wait_for(lambda: self.status().get("state") == "training" and self.checkpoints()[-1] > first)
        (self.run_folder / "STOP").touch()
        code, _, errors = self.end(process)
        self.assertEqual(code, 75, errors)
        self.assertIn("reason max_time", errors)
        self.assertIn("reason trigger file STOP", errors)
        self.assertFalse((self.run_folder / "STOP").exists())

    def fake_program(self, train):
        """A program whose `train` is a piece of bash: it has the attempt's number $n, and writes status.json."""
        program = self.folder / "program"
        program.write_text(f"""#!/bin/bash
run={self.run_folder}
if [ "$1" = config ]; then mkdir -p "$run/checkpoints"; echo "$run"; exit; fi
echo "$*" >>"$run/starts"
n=$(wc -l <"$run/starts")
status() {{ printf '%s' "$1" >"$run/new" && mv "$run/new" "$run/status.json"; }}
{train}
""")
        program.chmod(0o755)
        return program

    def test_every_reason_of_a_stop_counts(self):
        program = self.fake_program("""
status '{"state": "preempted", "exit_code": 75, "reason": "SIGTERM, trigger file STOP", "step": 3}'
exit 75""")
        code, _, errors = self.end(self.start("--program", program, self.config))
        self.assertEqual(code, 75, errors)
        self.assertIn("reason SIGTERM, trigger file STOP", errors)
        self.assertNotIn("restart", errors)

    def test_resume_is_for_the_first_start_alone(self):
        old = self.run_folder / "checkpoints/step-000000002"
        # Attempt 1 dies before it has set the run back, 2 before a checkpoint of its own, 3 after it.
        train = f"""
[ $n = 1 ] && exit 86
[ $n = 2 ] && {{ status '{{"state": "training", "checkpoint": "{old}"}}'; exit 86; }}
[ $n = 3 ] && {{ mkdir "$run/checkpoints/step-000000004"
  status '{{"state": "training", "checkpoint": "{old.parent}/step-000000004"}}'; exit 86; }}
status '{{"state": "done", "exit_code": 0}}'"""
        for spelling in (["--resume", old], [f"--resume={old}"]):
            program = self.fake_program(train)
            self.run_folder.mkdir(parents=True, exist_ok=True)
            (self.run_folder / "status.json").write_text(
                json.dumps({"state": "done", "checkpoint": str(old.parent / "step-000000006")}))
            code, _, errors = self.end(self.start("--program", program, self.config, *spelling, "--json"))
            self.assertEqual(code, 0, errors)
            starts = (self.run_folder / "starts").read_text().splitlines()
            self.assertEqual([str(old) in line for line in starts], [True, True, True, False], starts)
            self.assertEqual(starts[3], f"train {self.config} --json")
            shutil.rmtree(self.run_folder)

    def test_a_new_run_stays_the_run_that_it_became(self):
        code, _, errors = self.end(self.start(self.config, "--resume", "none", environment={
            "MHA2MLA_FAILPOINT": "step.begin=kill@6"}))
        self.assertEqual(code, 0, errors)
        self.assertIn("restart 1 of 5", errors)
        self.assertEqual(self.checkpoints()[-1], 6)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
