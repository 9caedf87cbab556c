"""Runs that cannot go on: folders of others, corrupt checkpoints, changed configurations, divergence, full disks.

  wrong_run_test.py PROGRAM SOURCE_FOLDER [unittest arguments]
"""
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
import support
from wrong_input import (
    PROGRAM, MODEL, LOCKED, IO, NO_CHECKPOINT, PERMISSION, BAD_CONFIG, NUMERICAL, AS_ROOT, tree,
    names_but_of, flip_byte, WrongInput, refused)


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
