#!/usr/bin/env python3
"""Print what conversion cost and what fine-tuning brought back, from the result.json of a run.

Usage: recovery_table.py RUN_FOLDER [BASELINE_RUN_FOLDER]

The baseline is the unconverted model, fine-tuned in the same way on the same tokens.
"""
import json, pathlib, sys


def load(folder):
    path = pathlib.Path(folder) / "result.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"recovery_table: error: {path}: {error}; finish the run with mha2mla train")


def rows(run, baseline):
    """[(label, {set: ppl}, cache bytes per token)]"""
    cache, validation = run["cache_bytes_per_token"], run["validation"]
    table = [("original", validation["source"], cache["before"]),
             ("converted", validation["converted"], cache["after"]),
             ("recovered", validation["recovered"], cache["after"])]
    if baseline:
        cache = baseline["cache_bytes_per_token"]["before"]
        table.append(("full RoPE, fine-tuned", baseline["validation"]["recovered"], cache))
    return table


def main(run_folder, baseline_folder=None):
    run = load(run_folder)
    baseline = load(baseline_folder) if baseline_folder else None
    table = rows(run, baseline)
    sets = [name for name, value in table[0][1].items() if isinstance(value, dict)]
    before = table[0][2]
    width = max(11, *(len(name) + 2 for name in sets))

    heads = "".join(f"{name:>{width}}" for name in sets)
    print(f"{'':24}{'perplexity':>{width}}{'':{width * (len(sets) - 1)}}   cache, bytes")
    print(f"{'':24}{heads}   per token")
    for label, values, cache in table:
        numbers = "".join(f"{values[name]['ppl']:>{width}.2f}" for name in sets)
        print(f"{label:24}{numbers}   {cache:>7,} ({100 * cache / before:.4g} %)")
    # A run that was resumed after its last step has measured no speed.
    speed = f" at {run['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in run else ""
    print(f"\nperplexity per set: {run['protocol']}")
    print(f"fine-tuning: {run['tokens']:,} tokens{speed}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
