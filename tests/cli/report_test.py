#!/usr/bin/env python3
"""report and watch from outside: the page is self-contained, its parts are well-formed, and broken
runs are named. Usage: report_test.py PROGRAM"""
import csv
import html.parser
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import xml.dom.minidom
from pathlib import Path

PROGRAM = sys.argv.pop(1)
NASTY = "<script>alert('&')</script>"


def lines(steps):
    yield {"type": "val", "step": 0, "tokens": 0, "val_loss": 5.0, "val_loss/" + NASTY: 5.0}
    for step in range(1, steps + 1):
        yield {"type": "train", "step": step, "tokens": 64 * step, "loss": 5 - step / steps,
               "lr": 1e-3, "grad_norm": 1.0, "tokens_per_s": 1e4, "rss_bytes": 2**30}
    yield {"type": "val", "step": steps, "tokens": 64 * steps, "val_loss": 4.0,
           "val_loss/" + NASTY: 4.0}


class Page(html.parser.HTMLParser):
    """Tags that are open at the end, and every attribute that could fetch something."""
    VOID = {"meta", "path", "line", "circle", "rect"}

    def __init__(self):
        super().__init__()
        self.open, self.references, self.scripts = [], [], 0

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [v for k, v in attributes if k in ("src", "href", "xlink:href")]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()


class ReportTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)

    def make_run(self, name, text=None):
        run = self.root / name
        run.mkdir(parents=True)
        text = text if text is not None else "".join(json.dumps(x) + "\n" for x in lines(40))
        (run / "metrics.jsonl").write_text(text)
        (run / "status.json").write_text(json.dumps({"state": "failed", "message": NASTY}))
        return run

    def run_program(self, *arguments):
        return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True,
                              timeout=120)

    def test_report_is_whole_and_self_contained(self):
        a, b = self.make_run("a"), self.make_run("b<&>")
        out = self.root / "out"
        done = self.run_program("report", a, b, self.root / "absent", "--out", out, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(done.stdout)
        self.assertEqual(len(result["runs"]), 2)
        self.assertIn("absent", result["skipped"][0])
        text = (out / "report.html").read_text()
        page = Page()
        page.feed(text)
        self.assertEqual(page.open, [])
        self.assertEqual(page.scripts, 1)
        self.assertTrue(all(r.startswith("#") for r in page.references), page.references)
        self.assertNotIn("<script>alert", text)
        self.assertEqual(set(re.findall(r"https?://[^\"]+", text)), {"http://www.w3.org/2000/svg"})
        self.assertIn("absent", text)
        drawings = sorted(out.glob("*.svg"))
        self.assertEqual([d.stem for d in drawings], ["gradient_norm", "learning_rate", "loss",
                                                      "memory", "throughput", "validation"])
        for drawing in drawings:
            xml.dom.minidom.parse(str(drawing))
        with open(out / "runs.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([r["run"] for r in rows], ["a", "b<&>"])
        self.assertEqual(float(rows[0]["last val"]), 4.0)
        self.assertEqual(set(result["files"]), {str(f) for f in out.iterdir()})

    def test_hostile_metrics_do_not_crash(self):
        nasty = ['{"type":"train","step":1e308,"loss":-1e308,"lr":1e308}', "[" * 100000,
                 '{"type":"train","step":2,"loss":1e-320}', '{"type":"val","step":3,"val_loss":{}}',
                 '{"type":"train","step":9223372036854775807,"loss":0}', '{"type":"train","st']
        run = self.make_run("nasty", "\n".join(nasty))
        (run / "result.json").write_text("[")
        (run / "sweep.json").mkdir()
        (run / "converted").mkdir()
        (run / "converted" / "MANIFEST.json").write_text('{"state": {}}')
        done = self.run_program("report", run, "--out", self.root / "out")
        self.assertEqual(done.returncode, 0, done.stderr)
        page = (self.root / "out" / "report.html").read_text()
        for broken in ("result.json", "MANIFEST.json"):
            self.assertIn(broken, page)
        for drawing in (self.root / "out").glob("*.svg"):
            xml.dom.minidom.parse(str(drawing))

    def test_nothing_to_report(self):
        empty = self.make_run("empty", "")
        done = self.run_program("report", empty, "--out", self.root / "out")
        self.assertEqual(done.returncode, 65)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertFalse((self.root / "out").exists())

    def test_watch_prints_one_plot_without_a_terminal(self):
        done = self.run_program("watch", self.make_run("a"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("step 40, loss 4.0000, val 4.0000", done.stdout)
        self.assertNotIn("\x1b", done.stdout)
        self.assertLess(len(done.stdout.splitlines()), 25)

    def make_unfinished_run(self, lock):
        run = self.make_run("unfinished")
        (run / "status.json").write_text(json.dumps({"state": "training", "step": 40}))
        (run / "run.lock").write_text(lock if isinstance(lock, str) else json.dumps(lock))
        return run

    def test_watch_of_a_process_that_is_gone(self):
        ended = subprocess.Popen(["true"])
        ended.wait()
        for pid in (ended.pid, os.getpid()):  # no such process; another one with its number
            run = self.make_unfinished_run({"host": socket.gethostname(), "pid": pid})
            done = self.run_program("watch", run)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("unfinished (training, but its process is gone), step 40", done.stdout)
            self.assertRegex(done.stdout, rf"process {pid} is gone .*, last update \d+ s ago")
            self.assertEqual(json.loads(self.run_program("watch", run, "--json").stdout)["process"],
                             "gone")
            shutil.rmtree(run)

    def test_watch_of_a_process_at_work(self):
        run = self.make_unfinished_run({"host": socket.gethostname(), "pid": os.getpid()})
        with open(run / "run.lock"):
            done = self.run_program("watch", run)
            self.assertIn("unfinished (training), step 40", done.stdout)
            self.assertNotIn("last update", done.stdout)
            for file in run.iterdir():
                os.utime(file, (time.time() - 1000,) * 2)
            self.assertRegex(self.run_program("watch", run).stdout,
                             rf"process {os.getpid()} is alive, last update 100\d s ago")

    def test_watch_of_a_process_elsewhere(self):
        run = self.make_unfinished_run({"host": "some-other-host", "pid": 1})
        done = self.run_program("watch", run)
        self.assertIn("unfinished (training), step 40", done.stdout)
        self.assertRegex(done.stdout, r"process 1 on host some-other-host, .* last update \d+ s ago")

    def test_watch_of_a_damaged_lock(self):
        for lock in ("", "[", '{"host": 3, "pid": 1}', '{"host": "\\u001b[2J", "pid": 1}',
                     '{"host": "\\u009b2J", "pid": 1}', '{"host": "h\\u007f", "pid": 1}',
                     '{"host": "h", "pid": 1e300}', '{"host": "h", "pid": -1}'):
            with self.subTest(lock):
                run = self.make_unfinished_run(lock)
                result = json.loads(self.run_program("watch", run, "--json").stdout)
                self.assertEqual(result["process"], "unknown")
                shutil.rmtree(run)


if __name__ == "__main__":
    unittest.main()
