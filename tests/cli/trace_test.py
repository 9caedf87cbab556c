"""MHA2MLA_TRACE: a file per rank with the phases of a run, the same bits as without, and refusals.

  trace_test.py PROGRAM MPIEXEC SOURCE_FOLDER [unittest arguments]
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import support

PROGRAM, MPIEXEC, SOURCE = sys.argv.pop(1), sys.argv.pop(1), Path(sys.argv.pop(1))
PERMISSION, BAD_CONFIG, PREEMPTED = 77, 78, 75
STEPS, MICRO_BATCHES = 6, 4
KERNELS = {"gemm forward", "gemm dgrad", "gemm wgrad", "attention forward", "attention backward",
           "rms_norm", "rope", "swiglu", "cross_entropy", "optimizer", "gradient_norm"}
PROGRAM_PARTS = {"step", "data", "validation", "checkpoint snapshot", "checkpoint write"}


def end(event):
    return event["ts"] + event["dur"]


def inside(inner, outer):
    half_a_nanosecond = 5e-4  # times are decimal microseconds, read as binary fractions
    return (inner["tid"] == outer["tid"] and inner["ts"] >= outer["ts"] - half_a_nanosecond
            and end(inner) <= end(outer) + half_a_nanosecond)


class TraceTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="mha2mla-trace-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.shard = support.write_shard(self.folder / "train.ds")

    def train(self, name, *overrides, trace=None, ranks=1):
        """The finished process and the folder of the run."""
        config = support.write_config(self.folder / f"{name}.yaml", SOURCE, self.shard,
                                      self.folder / name)
        launcher = support.mpirun(ranks, MPIEXEC) if ranks > 1 else []
        variable = ["env", f"MHA2MLA_TRACE={trace}"] if trace else []
        done = support.run([*variable, *launcher, PROGRAM, "train", config, *overrides], self.folder)
        return done, self.folder / name / "test" / "bits"

    def read(self, name):
        trace = json.loads((self.folder / name).read_text())
        return [e for e in trace if e["ph"] == "X"], [e for e in trace if e["ph"] == "M"]

    def state_of(self, run):
        checkpoint = run / "checkpoints" / f"step-{STEPS:09d}"
        losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return ({p.name: p.read_bytes() for p in checkpoint.glob("*.h5")},
                [(m["step"], m.get("loss"), m.get("grad_norm"), m.get("val_loss")) for m in losses
                 if m["type"] != "ckpt"])

    def test_phases_of_a_run_and_its_bits(self):
        plain, plain_run = self.train("plain")
        traced, traced_run = self.train("traced", trace="trace.json")
        self.assertEqual((plain.returncode, traced.returncode), (0, 0), traced.stderr)
        self.assertNotEqual(self.state_of(plain_run)[0], {})
        self.assertEqual(self.state_of(plain_run), self.state_of(traced_run))

        events, metadata = self.read("trace.json")
        names = {e["name"] for e in events}
        self.assertLessEqual(KERNELS | PROGRAM_PARTS, names)
        self.assertNotIn("all_reduce", names)  # one rank has nobody to exchange with
        names_in_order = [e["name"] for e in events]
        self.assertEqual(names_in_order.count("step"), STEPS)
        self.assertEqual(names_in_order.count("optimizer"), STEPS)
        self.assertEqual(names_in_order.count("data"), STEPS * MICRO_BATCHES)
        self.assertEqual({e["pid"] for e in events}, {0})
        self.assertEqual({e["args"]["name"] for e in metadata if e["name"] == "thread_name"},
                         {"main", "checkpoint writer"})

        steps = [e for e in events if e["name"] == "step"]
        backward = [e for e in events if e["name"] == "attention backward"]
        self.assertEqual({e["args"]["layer"] for e in backward}, {0, 1})
        for event in backward:
            self.assertEqual(sum(inside(event, step) for step in steps), 1)
            self.assertGreater(event["args"]["GFLOP"], 0)
        writer = {e["tid"] for e in events if e["name"] == "checkpoint write"}
        self.assertEqual(len(writer), 1)
        self.assertTrue(writer.isdisjoint({e["tid"] for e in steps}))

    def test_recompute_is_told_apart(self):
        done, _ = self.train("run", "parallelism.recompute=block", trace="trace.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        names = {e["name"] for e in self.read("trace.json")[0]}
        self.assertLessEqual({"gemm recompute", "attention recompute"}, names)

    def test_a_file_for_each_rank(self):
        done, _ = self.train("run", trace="trace.json", ranks=2)
        self.assertEqual(done.returncode, 0, done.stderr)
        for rank, name in enumerate(["trace.json", "trace.rank1.json"]):
            events, _ = self.read(name)
            self.assertEqual({e["pid"] for e in events}, {rank})
            self.assertLessEqual({"all_reduce", "exchange"} | KERNELS, {e["name"] for e in events})

    def test_a_stopped_run_has_a_trace(self):
        done, _ = self.train("run", "general.max_time=0.001s", trace="trace.json")
        self.assertEqual(done.returncode, PREEMPTED, done.stderr)
        self.assertNotEqual(self.read("trace.json")[0], [])

    def refuse(self, code, trace, ranks=1):
        before = sorted(p.name for p in self.folder.iterdir())
        done, run = self.train("run", trace=trace, ranks=ranks)
        self.assertEqual(done.returncode, code, done.stderr)
        told = [line for line in done.stderr.splitlines() if "error:" in line]
        self.assertEqual(len(told), 1, done.stderr)
        self.assertIn("MHA2MLA_TRACE", told[0])
        self.assertFalse(run.exists())
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()),
                         sorted([*before, "run.yaml"]))
        (self.folder / "run.yaml").unlink()

    def test_paths_that_no_file_can_have(self):
        (self.folder / "folder").mkdir()
        for trace in ("missing/trace.json", "train.ds/trace.json", "folder"):
            self.refuse(BAD_CONFIG, trace)
        self.refuse(BAD_CONFIG, "missing/trace.json", ranks=2)

    def test_not_permitted(self):
        as_root = os.geteuid() == 0
        user = {"user": 65534, "group": 65534, "extra_groups": []} if as_root else {}
        (self.folder / "closed").mkdir()
        (self.folder / "closed").chmod(0o555)
        self.folder.chmod(0o755)
        if as_root and subprocess.run(["test", "-x", PROGRAM], **user).returncode != 0:
            self.skipTest("only root may run this program")
        done = subprocess.run([PROGRAM, "config"], cwd=self.folder, capture_output=True, text=True,
                              env=dict(support.environment(), MHA2MLA_TRACE="closed/trace.json"),
                              timeout=120, **user)
        self.assertEqual(done.returncode, PERMISSION, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn("closed/trace.json: error: MHA2MLA_TRACE: expected permission", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
