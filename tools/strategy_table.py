#!/usr/bin/env python3
"""Fine-tune one model once per RoPE strategy and latent, and print a Markdown table.

Usage: strategy_table.py MODEL CORPUS_DIR OUT_DIR [--steps 100] [--ranks 2] [--binary build/release/mha2mla]

CORPUS_DIR holds {prose,reference,code}.{train,val}.ds. Every row is a run in OUT_DIR/runs/strategies/; a run
that exists is resumed or skipped, so the same command continues an interrupted table.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys

SETS = ("prose", "reference", "code")
# name -> overrides of `mla`; None: no conversion.
ROWS = {
    "full RoPE, no conversion": None,
    "2-norm r4": {"strategy": "2-norm", "r": 4, "method": "none"},
    "uniform r4": {"strategy": "uniform", "r": 4, "method": "none"},
    "high r4": {"strategy": "high", "r": 4, "method": "none"},
    "low r4": {"strategy": "low", "r": 4, "method": "none"},
    "none": {"strategy": "none", "r": 0, "method": "none"},
    "2-norm r4, joint c32": {"strategy": "2-norm", "r": 4, "method": "joint", "c": 32},
    "2-norm r4, joint c16": {"strategy": "2-norm", "r": 4, "method": "joint", "c": 16},
    "2-norm r4, joint c8": {"strategy": "2-norm", "r": 4, "method": "joint", "c": 8},
    "2-norm r4, split c8+8": {"strategy": "2-norm", "r": 4, "method": "split", "c": 8},
}


def config(args, row):
    lines = [
        f"model: {{init_from: {args.model.resolve()}, dtype: bfloat16}}",
        "data_stages: [{name: main, data: {dataset: {dataset_folder: ["
        + ", ".join(str((args.corpus / f"{s}.train.ds").resolve()) for s in SETS)
        + "], dataset_weights: [0.17, 0.41, 0.42]}}}]",
        "validation: {sets: {" + ", ".join(f"{s}: {(args.corpus / f'{s}.val.ds').resolve()}" for s in SETS)
        + "}, windows_per_set: 50}",
        "tokens: {sequence_length: 1024, micro_batch_size: 1, global_batch_size: 4, "
        f"train_steps: {args.steps}, val_check_interval: 0}}",
        "optimizer: {learning_rate_scheduler: {learning_rate: 5.0e-4, lr_warmup_steps: "
        f"{args.steps // 20}, lr_decay_style: 1-sqrt, lr_decay_starting_step: {args.steps - args.steps * 15 // 100}, "
        f"lr_decay_steps: {args.steps * 15 // 100}}}}}",
        "checkpoints: {checkpoint_interval: 100000, keep_last: 1}",
    ]
    if row is not None:
        lines.append(f"mla: {{rope: {{strategy: {row['strategy']}, rope_pairs_per_head: {row['r']}}}, "
                     f"latent: {{method: {row['method']}, latent_dims_per_kv_head: {row.get('c', 0)}}}, "
                     "calibration: {windows: 128}}")
    return "\n".join(lines) + "\n"


def run(args, name, row):
    slug = "".join(c if c.isalnum() else "-" for c in name)
    result = args.out / "runs/strategies" / slug / "result.json"
    if not result.exists():
        path = args.out / f"{slug}.yaml"
        path.write_text(f"general: {{project: strategies, run: {slug}, output_dir: {args.out / 'runs'}}}\n"
                        + config(args, row))
        env = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        command = ["mpirun", "-np", str(args.ranks), "--bind-to", "none", str(args.binary), "train", str(path), "--json"]
        print(f"running {name}", file=sys.stderr, flush=True)
        if subprocess.run(command, env=env, stdout=subprocess.DEVNULL).returncode != 0:
            sys.exit(f"strategy_table.py: error: {name}: the run failed; see {result.parent / 'trainer.log'}")
    return json.loads(result.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--binary", type=pathlib.Path, default=pathlib.Path("build/release/mha2mla"))
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    print("| conversion | cache | ppl before: prose / reference / code | after | mean NLL before -> after |")
    print("|---|---|---|---|---|", flush=True)
    for name, row in ROWS.items():
        r = run(args, name, row)
        before = r["validation"].get("converted") or r["validation"]["start"]
        after = r["validation"]["recovered"]
        cache = r["cache_bytes_per_token"]
        ppl = [" / ".join(f"{v[s]['ppl']:.2f}" for s in SETS) for v in (before, after)]
        print(f"| {name} | {100 * cache['after'] / cache['before']:.2f} % | {ppl[0]} | {ppl[1]} | "
              f"{before['mean_nll']:.4f} -> {after['mean_nll']:.4f} |", flush=True)


if __name__ == "__main__":
    main()
