#!/usr/bin/env python3
"""Kills, stops and damages a small training again and again, and lets it go on: no acknowledged step may
be lost, and what comes out must be the bytes of a run that nobody disturbed.

Usage: torture.py MHA2MLA_BINARY SOURCE_DIR [--kills N] [--seconds S] [--seed N] [--json FILE]

Ends after N kills or S seconds. The seed fixes which acts are chosen, not the timing of the machine.
"""
import argparse
import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "cli"))
import support
from processes import KILLED, Job
from run_folder import ACKNOWLEDGED, RESUMED, RunFolder

STEPS, INTERVAL, KEEP = 60, 3, 3
OVERRIDES = [f"tokens.train_steps={STEPS}", f"checkpoints.checkpoint_interval={INTERVAL}",
             f"checkpoints.keep_last={KEEP}", "tokens.val_check_interval=20",
             "logging.iteration_step_info_interval=1"]
ACTS = ["TERM", "TERM TERM", "USR1", "USR2", "STOP a rank", "hang", "second start", "corrupt newest", "disk full"]
VICTIMS = ["rank 0", "rank 1", "mpirun", "session"]
PREEMPTED, LOCKED, DISK, HANG = 75, 73, 74, 86


class Violation(Exception):
    pass


def require(holds, text):
    if not holds:
        raise Violation(text)


class Torture:
    def __init__(self, options, work):
        self.options, self.work = options, work
        self.rng = random.Random(options.seed)
        self.count = collections.Counter()
        self.victims, self.places = collections.Counter(), collections.Counter()
        self.longest_end = 0.0
        self.began = time.monotonic()
        shard = support.write_shard(work / "train.ds")
        self.config = support.write_config(work / "config.yaml", options.source, shard, work / "runs")
        # Open MPI's files in a folder of our own: what a killed mpirun leaves goes with it.
        self.mpi_files = work / "t0"
        names = re.findall(r'^ +"([a-z_]+\.[a-z_]+)",$', (options.source / "core/failpoint.h").read_text(), re.M)
        self.places_inside = [n for n in names if n.startswith("checkpoint.")]
        self.places_outside = [n for n in names if not n.startswith("checkpoint.")]
        require(self.places_inside and self.places_outside, "core/failpoint.h: no names found")
        self.folder, self.acknowledged = None, 0
        self.reference = self.make_reference()

    # ---- one start of the program ----

    def start(self, ranks=1, environment=None, overrides=()):
        shutil.rmtree(self.mpi_files, ignore_errors=True)
        # A new name: what outlived a kill for a moment may still write into the old folder.
        self.mpi_files = self.work / f"t{self.count['starts']}"
        self.mpi_files.mkdir()
        where = {"TMPDIR": str(self.mpi_files), "OMPI_MCA_btl_vader_backing_directory": str(self.mpi_files)}
        self.count["starts"] += 1
        return Job(self.options.binary, [self.config, *OVERRIDES, *overrides], ranks, self.work / "log", dict(where, **(environment or {})))

    def make_reference(self):
        folder = RunFolder(self.work / "runs/test/bits")
        took = []
        for _ in range(2):  # the first run warms the caches
            folder.remove()
            job = self.start()
            code, _ = job.end()
            require(code == 0, f"the undisturbed run ended with {code}: {job.output()[-500:]}")
            took.append(time.monotonic() - job.started)
        self.duration = took[-1]
        self.size = sum(p.stat().st_size for p in folder.checkpoint(STEPS).iterdir())
        reference = folder.state(STEPS), folder.metrics()
        folder.remove()
        return reference

    def finish(self, job, codes):
        """Waits for the end of the job and checks all that holds whenever a process has ended."""
        ended = job.end()
        require(ended, "does not end within 60 s")
        code, left = ended
        self.longest_end = max(self.longest_end, left)
        self.count[f"exit {code}"] += 1
        require(left < 5, f"processes lived on for {left:.1f} s")
        require(code in codes, f"exit code {code}, expected {sorted(codes)}")
        output = job.output()
        resumed = RESUMED.search(output)
        acknowledged = [int(step) for step, _ in ACKNOWLEDGED.findall(output)]
        if resumed:
            require(int(resumed[1]) >= self.acknowledged,
                    f"resumed at {resumed[1]}, acknowledged was {self.acknowledged}")
            self.count["resumes"] += 1
        elif self.acknowledged:
            require(not acknowledged and "validation at step 0" not in output,
                    f"began anew, acknowledged was {self.acknowledged}")
        self.count["acknowledged"] += len(acknowledged)
        self.acknowledged = max([self.acknowledged, *acknowledged])
        steps = self.folder.steps()
        require(not self.acknowledged or (steps and steps[-1] >= self.acknowledged),
                f"checkpoints {steps}, acknowledged was {self.acknowledged}")
        require(len(steps) <= KEEP + 3, f"{len(steps)} checkpoints are kept")  # + best, + new, + one being retired
        if code == 0:
            self.compare()
        return code

    def compare(self):
        state, metrics = self.reference
        require(self.folder.steps()[-1] == STEPS, f"ended at {self.folder.steps()}")
        require(self.folder.state(STEPS) == state, "the final checkpoint has other bytes than the undisturbed run")
        require(self.folder.metrics() == metrics, "metrics.jsonl has other steps or losses than the undisturbed run")
        require(not self.folder.leftovers(), f"leftovers {self.folder.leftovers()}")
        require(self.folder.status().get("state") == "done", f"status {self.folder.status()}")
        self.count["runs compared"] += 1

    # ---- kills ----

    def moment(self, job, late=1.0):
        """Some time in what is left of the run, from its first instant on."""
        left = 1 - (self.acknowledged / STEPS)
        time.sleep(self.rng.uniform(0, late * self.duration * (0.25 + left) * (1.5 if job.ranks > 1 else 1)))

    def kill(self):
        ranks = 2 if self.rng.random() < self.options.two_ranks else 1
        self.count["with two ranks"] += ranks > 1
        victim = VICTIMS[self.count["with two ranks"] % len(VICTIMS)] if ranks > 1 else "rank 0"
        draw = self.rng.random()
        if draw < 0.5:
            self.kill_at_a_place(ranks, victim, self.rng.choice(self.places_inside), inside=True)
        elif draw < 0.6:
            self.kill_at_a_place(ranks, victim, self.rng.choice(self.places_outside), inside=False)
        else:
            job = self.start(ranks)
            self.moment(job)
            job.kill(victim)
            code = self.finish(job, {0, KILLED})
            if code != 0:
                self.record_kill(victim, "any moment", self.folder.is_saving())

    def kill_at_a_place(self, ranks, victim, place, inside):
        itself = victim == "rank 0" and self.rng.random() < 0.5
        passage = self.rng.randint(1, 4)
        job = self.start(ranks, {"MHA2MLA_FAILPOINT": f"{place}={'kill' if itself else 'stop'}@{passage}",
                                 "MHA2MLA_FAILPOINT_RANK": "0"})
        reached = itself or job.wait_for(lambda: job.is_stopped(0), 60)
        if reached and not itself:
            job.kill(victim)
            if ranks > 1 and victim != "session":  # mpirun ends a stopped rank only after it has gone on
                job.wait_for(lambda: not job.is_stopped(0), 5)
        if self.finish(job, {0, KILLED}) != 0:
            self.record_kill(victim, place, inside)

    def record_kill(self, victim, place, inside):
        self.count["kills"] += 1
        self.count["inside a save"] += inside
        self.victims[victim] += 1
        self.places[place] += 1

    # ---- other acts ----

    def act(self, name):
        self.count[name] += 1
        getattr(self, "act_" + name.lower().replace(" ", "_"))()

    def start_and_wait(self, signum=signal.SIGTERM, allow_two=True):
        """A job whose rank 0 has its handlers, at some moment of its life."""
        job = self.start(2 if allow_two and self.rng.random() < self.options.two_ranks else 1)
        job.wait_for(lambda: job.handles(0, signum) and (job.ranks == 1 or job.handles(1, signum)), 30)
        self.moment(job, late=0.5)  # the start is over
        return job

    def check_preempted(self, code):
        status = self.folder.status()
        if code == PREEMPTED and "step" in status and status["step"] > 0:
            require(self.folder.steps()[-1] == status["step"],
                    f"stopped at step {status['step']}, saved {self.folder.steps()}")
        if code == PREEMPTED:
            require(status.get("state") == "preempted" and status.get("exit_code") == PREEMPTED, f"status {status}")

    def act_usr1(self):
        job = self.start_and_wait(signal.SIGUSR1)
        job.send(job.process.pid, signal.SIGUSR1)
        self.check_preempted(self.finish(job, {0, PREEMPTED}))

    def act_term(self):
        job = self.start_and_wait()
        job.send(job.process.pid, signal.SIGTERM)
        code = self.finish(job, {0, PREEMPTED} if job.ranks == 1 else {0, 1, PREEMPTED})
        self.check_preempted(code)

    def act_term_term(self):
        job = self.start_and_wait()
        job.send(job.process.pid, signal.SIGTERM)
        time.sleep(self.rng.uniform(0, 0.05))
        job.send(job.process.pid, signal.SIGTERM)
        self.check_preempted(self.finish(job, {0, PREEMPTED, 130} if job.ranks == 1 else {0, 1, PREEMPTED}))

    def act_usr2(self):
        job = self.start_and_wait(signal.SIGUSR2)
        for _ in range(self.rng.randint(1, 3)):
            job.send(job.process.pid, signal.SIGUSR2)
            time.sleep(self.rng.uniform(0, 0.1))
        self.finish(job, {0})

    def act_stop_a_rank(self):
        job = self.start_and_wait()
        pid = job.rank(self.rng.randrange(job.ranks))
        if pid:
            job.send(pid, signal.SIGSTOP)
            time.sleep(self.rng.uniform(0.2, 1.5))
            job.send(pid, signal.SIGCONT)
        self.finish(job, {0})

    def act_hang(self):
        limits = [f"watchdog.{phase}_seconds=2" for phase in ("step", "validation", "checkpoint")]
        job = self.start(2, overrides=limits)
        job.wait_for(lambda: self.folder.status().get("state") == "training" and job.handles(1, signal.SIGTERM), 30)
        self.moment(job, late=0.2)
        job.send(job.rank(1), signal.SIGSTOP)
        if not job.wait_for(lambda: job.process.poll() is not None, 20):
            job.kill("session")  # it stood where no limit of 2 s holds: in the setup
            self.finish(job, {KILLED})
            return
        code = self.finish(job, {0, HANG})
        require(code == 0 or "error: watchdog: expected" in job.output(), "a hang without a word")

    def act_second_start(self):
        job = self.start_and_wait(allow_two=False)
        job.wait_for(lambda: "run.lock" in os.listdir(self.folder.path) if self.folder.path.exists() else False, 10)
        second = Job(self.options.binary, [self.config, *OVERRIDES], 1, self.work / "second.log")
        code, _ = second.end()
        overlapped = job.process.poll() is None
        self.finish(job, {0})
        if overlapped:
            require(code == LOCKED, f"the second start ended with {code}: {second.output()[-300:]}")
            require(str(job.process.pid) in second.output(), f"the owner is not named: {second.output()[-300:]}")

    def act_corrupt_newest(self):
        steps = self.folder.steps()
        if len(steps) < 2:
            return
        how = self.folder.corrupt(self.rng)
        self.acknowledged = min(self.acknowledged, steps[-2])
        job = self.start()
        if self.rng.random() < 0.5:
            self.moment(job)
            job.kill("session")
        try:
            self.finish(job, {0, KILLED})
        except Violation as violation:
            raise Violation(f"after {how}: {violation}") from None

    def act_disk_full(self):
        """A run of its own, in the same place, on a disk that has too little space for a while."""
        disk, aside = self.work / "runs", self.work / "aside"
        disk.rename(aside)
        disk.mkdir()
        size = int(self.size * self.rng.uniform(0.2, 6))
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True)
        acknowledged, self.acknowledged = self.acknowledged, 0
        try:
            if mounted.returncode != 0:
                self.count["skipped: disk full needs the right to mount"] += 1
                return
            code = self.finish(self.start(), {0, DISK})
            self.count[f"disk full: {'noticed' if code else 'was enough'}"] += 1
            subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)
            self.finish(self.start(), {0})
        except Violation as violation:
            raise Violation(f"disk of {size} bytes: {violation}") from None
        finally:
            if mounted.returncode == 0:
                subprocess.run(["umount", "-l", disk], check=True)
            disk.rmdir()
            aside.rename(disk)
            self.acknowledged = acknowledged

    # ---- the loop ----

    def is_over(self):
        return self.count["kills"] >= self.options.kills or time.monotonic() - self.began > self.options.seconds

    def run_once(self):
        """A run from its start to its end, with as many disturbances as it takes or 25."""
        self.folder, self.acknowledged = RunFolder(self.work / "runs/test/bits"), 0
        for _ in range(25):
            if self.is_over():
                break
            before = self.count["runs compared"]
            if self.rng.random() < self.options.acts:
                self.act(ACTS[sum(self.count[a] for a in ACTS) % len(ACTS)])
            else:
                self.kill()
            if self.folder.status().get("state") == "done" and self.count["runs compared"] > before:
                return
        self.finish(self.start(), {0})

    def run(self):
        violations = []
        while not self.is_over() and len(violations) < 5:
            try:
                self.run_once()
                self.folder.remove()
            except Violation as violation:
                kept = self.options.evidence / f"violation-{len(violations) + 1}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(self.work, kept, ignore_dangling_symlinks=True,
                                ignore=lambda _, names: [n for n in names if re.fullmatch(r"t\d+", n)])
                violations.append(f"{violation} (kept in {kept})")
                print(f"VIOLATION {violations[-1]}", flush=True)
                self.folder.remove()
            print(f"\r{self.count['kills']} kills, {self.count['inside a save']} inside a save, "
                  f"{self.count['runs compared']} runs compared, {time.monotonic() - self.began:.0f} s",
                  end="\n" if self.is_over() else "", file=sys.stderr)
        return self.summary(violations)

    def summary(self, violations):
        c = self.count
        return {"seed": self.options.seed, "kills": c["kills"], "inside_a_save": c["inside a save"],
                "victims": dict(self.victims), "places": dict(sorted(self.places.items())),
                "acts": {a: c[a] for a in ACTS}, "starts": c["starts"], "resumes": c["resumes"],
                "checkpoints_acknowledged": c["acknowledged"], "runs_compared": c["runs compared"],
                "exit_codes": {k[5:]: v for k, v in sorted(c.items()) if k.startswith("exit ")},
                "notes": {k: v for k, v in c.items() if k.startswith(("skipped", "disk full:"))},
                "slowest_end_seconds": round(self.longest_end, 2), "violations": violations,
                "seconds": round(time.monotonic() - self.began, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("source", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--two-ranks", type=float, default=0.25, help="share of starts with two ranks")
    parser.add_argument("--acts", type=float, default=0.2, help="share of acts other than kills")
    parser.add_argument("--json", type=pathlib.Path, help="also write the summary to this file")
    parser.add_argument("--evidence", type=pathlib.Path, default=pathlib.Path.cwd(), help="for what a violation left")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="torture-") as work:
        try:
            summary = Torture(options, pathlib.Path(work)).run()
        except Violation as violation:
            sys.exit(f"VIOLATION before any act: {violation}")
    text = json.dumps(summary, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    share = summary["inside_a_save"] / max(1, summary["kills"])
    print(f"{summary['kills']} kills, {100 * share:.0f} % inside a save, {summary['runs_compared']} runs equal to the "
          f"undisturbed one, {len(summary['violations'])} violations")
    sys.exit(1 if summary["violations"] or not summary["runs_compared"] else 0)


if __name__ == "__main__":
    main()
