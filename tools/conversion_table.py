#!/usr/bin/env python3
"""Convert one model with several r and c, without fine-tuning, and print the perplexities as Markdown.

Usage: conversion_table.py MODEL CORPUS_DIR OUT_DIR [--pairs 4 8] [--latent 32 16 8] [--windows 16] [--length 512]
                           [--dtype float32] [--binary build/release/mha2mla]

CORPUS_DIR holds {prose,reference,code}.{train,val}.jsonl (scripts/build_corpus.py). They are tokenized with the
model's own tokenizer. Calibration: the first windows of the training texts; perplexity: those of the validation texts.
"""
import argparse
import itertools
import json
import pathlib
import subprocess
import sys

SETS = ("prose", "reference", "code")
CALIBRATION_BYTES = 1 << 20  # of each training text


def verb(args, *words):
    done = subprocess.run([str(w) for w in [args.binary, *words, "--json"]], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"conversion_table.py: {words[0]}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def tokenize(args, part):
    """The shards of `part` of all sets, with commas between."""
    shards = []
    for name in SETS:
        shard = args.out / f"{name}.{part}.ds"
        shards.append(str(shard))
        if shard.exists():
            continue
        text = args.corpus / f"{name}.{part}.jsonl"
        beginning = args.out / text.name
        with open(text, "rb") as file, open(beginning, "wb") as copy:
            copy.writelines(itertools.takewhile(lambda _: copy.tell() < CALIBRATION_BYTES, file))
        verb(args, "tokenize", "--tokenizer", args.model, "--out", shard.with_suffix(""), beginning)
    return ",".join(shards)


def row(args, name, model, cache, data):
    sets = verb(args, "eval", model, "--data", data, "--sequence-length", args.length, "--max-windows", args.windows,
                "--dtype", args.dtype)
    ppl = " / ".join(f"{s['ppl']:.2f}" for s in sets["sets"])
    nll = sum(s["nll"] for s in sets["sets"]) / len(sets["sets"])
    print(f"| {name} | {cache} | {ppl} | {nll:.4f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--pairs", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--latent", type=int, nargs="+", default=[32, 16, 8])
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--binary", type=pathlib.Path, default=pathlib.Path("build/release/mha2mla"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train, validation = tokenize(args, "train"), tokenize(args, "val")
    statistics = args.out / "statistics.safetensors"
    if not statistics.exists():
        verb(args, "calibrate", args.model, "--data", train, "--sequence-length", args.length, "--max-windows",
             args.windows, "--out", statistics)
    print("| model | cache | ppl prose / reference / code | mean NLL |\n|---|---|---|---|")
    row(args, "as it is", args.model, "100.00 %", validation)
    for pairs, latent in [(r, c) for r in args.pairs for c in [0, *args.latent]]:
        name = f"2-norm r{pairs}" + (f", joint c{latent}" if latent else "")
        folder = args.out / f"r{pairs}-c{latent}"
        how = ["--latent-dims", latent] if latent else ["--latent", "none"]
        if not folder.exists():
            verb(args, "convert", args.model, "--rope", "2-norm", "--rope-pairs", pairs, *how, "--stats", statistics,
                 "--out", folder)
        manifest = json.loads((folder / "MANIFEST.json").read_text())
        cache = manifest["provenance"]["parity"]["cache_bytes_per_token"]
        row(args, name, folder, f"{100 * cache['after'] / cache['before']:.2f} %", validation)


if __name__ == "__main__":
    main()
