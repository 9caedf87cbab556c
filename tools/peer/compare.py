#!/usr/bin/env python3
"""Our training step and PyTorch's, one after the other in turn, on the same shape, tokens and type.

Usage: compare.py [--python PYTHON]... [--shape smollm-135m] [--dtype bfloat16] [--batch 4] [--sequence 512] [--rounds 5]

Each PYTHON is an interpreter that has PyTorch (default: python3); several are several peers. The machine should be
otherwise idle: every round has one step of each, so what slows the machine down slows all of them. Prints the median
step of each, tokens/s, peak resident memory, and the median over rounds of their times to ours.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SETTLE_SECONDS = 0.3  # for threads that spin a while after their work


class Program:
    """A process that makes one step for every line it is sent."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.name = self.answer()["name"]
        self.seconds, self.losses, self.peak_gib = [], [], 0.0

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"compare.py: error: {' '.join(map(str, self.process.args))}: ended early")
        return json.loads(line)

    def step(self, keep):
        time.sleep(SETTLE_SECONDS)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = self.answer()
        if keep:
            self.seconds.append(result["seconds"])
        self.losses.append(result["loss"])
        self.peak_gib = result["peak_gib"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", action="append", default=[])
    parser.add_argument("--program", default="build/release/bench/step_bench")
    parser.add_argument("--shape", default="smollm-135m", choices=["smollm-135m", "tiny-llama"])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--sequence", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dense", action="store_true", help="the unconverted model instead of MLA")
    parser.add_argument("--compile", action="store_true", help="torch.compile, where the peer has it")
    return parser.parse_args()


def table(programs, args):
    print(f"{args.shape} {'dense' if args.dense else 'MLA'} {args.dtype}, {args.batch} x {args.sequence} tokens, {args.threads} threads, "
          f"{args.rounds} rounds after {args.warm_up} that warm up\n")
    print("| program | step, median [ms] | fastest [ms] | tokens/s | peak memory [GiB] | loss | time / ours |")
    print("|---|---|---|---|---|---|---|")
    ours = programs[0]
    for p in programs:
        ratio = statistics.median(theirs / our for theirs, our in zip(p.seconds, ours.seconds))
        median = statistics.median(p.seconds)
        print(f"| {p.name} | {1e3 * median:.1f} | {1e3 * min(p.seconds):.1f} | {args.batch * args.sequence / median:.0f} "
              f"| {p.peak_gib:.2f} | {p.losses[0]:.4f} -> {p.losses[-1]:.4f} | {ratio:.2f} |")


def main():
    args = parse()
    vocabulary = 8192 if args.shape == "tiny-llama" else 49152
    shuffle = random.Random(2)
    ids = [shuffle.randrange(vocabulary) for _ in range(args.batch * args.sequence)]
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    environment["OMP_NUM_THREADS"] = str(args.threads)
    with tempfile.NamedTemporaryFile(suffix=".ids") as file:
        file.write(struct.pack(f"<{len(ids)}i", *ids))
        file.flush()
        shape = ["--shape", args.shape, "--dtype", args.dtype, "--batch", str(args.batch), "--sequence", str(args.sequence),
                 "--threads", str(args.threads), "--ids", file.name] + (["--dense"] if args.dense else [])
        peers = [[python, HERE / "torch_step.py", *shape] + (["--compile"] if args.compile else [])
                 for python in args.python or ["python3"]]
        programs = [Program(command, environment) for command in [[args.program, "--on-request", *shape], *peers]]
        for i in range(args.warm_up + args.rounds):
            for program in programs:
                program.step(keep=i >= args.warm_up)
            print(f"round {i + 1} of {args.warm_up + args.rounds}", file=sys.stderr)
        for program in programs:
            program.close()
    table(programs, args)


if __name__ == "__main__":
    main()
