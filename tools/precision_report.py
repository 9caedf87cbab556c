#!/usr/bin/env python3
"""bfloat16 against float32 on one model, at every instruction set: a Markdown table.

Usage: precision_report.py [--model examples/tiny-llama] [--corpus runs/corpus] [--steps 200] [--levels amx,avx512,avx2,baseline]

Per level: per-token KL(float32 || bfloat16) and the difference of the held-out NLL over 32 windows of 1024 ids
of each set, and the mean training loss of the last 20 steps of 4 x 256 tokens. Needs the corpus of the quickstart.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SETS = ("prose", "reference", "code")


def program(args, level, *words):
    env = dict(os.environ, MHA2MLA_ISA=level)
    done = subprocess.run([args.binary, *words, "--json"], env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"precision_report.py: error: {' '.join(words)} returned {done.returncode}")
    return json.loads(done.stdout)


def last_losses(args, level, dtype, folder):
    run = f"{level}-{dtype}"
    program(args, level, "train", "configs/tiny.yaml", f"model.init_from={args.model}", f"model.dtype={dtype}",
            f"general.run={run}", f"general.output_dir={folder}", f"tokens.train_steps={args.steps}",
            "tokens.global_batch_size=4", "tokens.val_check_interval=0", "logging.iteration_step_info_interval=1",
            "checkpoints.checkpoint_interval=100000", "parallelism.threads_per_rank=2", "parallelism.reduction_shards=1", "validation.windows_per_set=4")
    lines = map(json.loads, (folder / "tiny" / run / "metrics.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["type"] == "train"]
    return sum(losses[-20:]) / 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="examples/tiny-llama")
    parser.add_argument("--corpus", type=pathlib.Path, default=pathlib.Path("runs/corpus"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--levels", default="amx,avx512,avx2,baseline")
    parser.add_argument("--binary", default="build/release/mha2mla")
    args = parser.parse_args()
    data = ",".join(str(args.corpus / f"{s}.val.ds") for s in SETS)
    print("| instruction set | KL per token | NLL float32 | NLL bfloat16 | last 20 of "
          f"{args.steps} steps, float32 | bfloat16 | difference |\n|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for level in args.levels.split(","):
            c = program(args, level, "compare", args.model, args.model, "--data", data, "--sequence-length", "1024",
                        "--max-windows", "32", "--dtype", "float32", "--dtype-b", "bfloat16")
            wide, narrow = (last_losses(args, level, d, pathlib.Path(temporary)) for d in ("float32", "bfloat16"))
            print(f"| {level} | {c['kl']:.2e} | {c['nll_a']:.5f} | {c['nll_b']:.5f} | {wide:.5f} | {narrow:.5f} | "
                  f"{100 * (narrow / wide - 1):+.3f} % |", flush=True)


if __name__ == "__main__":
    main()
