#!/usr/bin/env python3
"""Does an exported folder compute in transformers what the program computes?

  check_export.py PROGRAM MODEL FOLDER          MODEL was exported to FOLDER
  check_export.py PROGRAM SOURCE... --matrix    convert each SOURCE in every way, export in every layout, check all

Needs torch and transformers (docs/export.md). For each folder, in float32:
  logits    of ids spread over the vocabulary, in two sequences: max |program - transformers| is at most 1e-4
            of max(1, the largest logit)
  padding   the second sequence padded on the left: the same logits
  greedy    16 ids generated from the cache: each is the program's own choice at its position
  cache     the logits of one id after the other from the cache: those of the whole sequence
Prints one line per folder; exit code 1 if one of them fails.
"""
import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-4
PROMPT_IDS = 8
NEW_IDS = 16
PADDING = 3


def run(program, *arguments):
    done = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"check_export.py: {done.stderr.strip()}")
    return done.stdout


def spread_ids(vocabulary, rows, length):
    state, ids = 1, []
    for _ in range(rows * length):
        state = (state * 1664525 + 1013904223) % 2**32
        ids.append(state * vocabulary >> 32)
    return torch.tensor(ids).reshape(rows, length)


def logits_of_program(program, model, ids, scratch):
    save_file({"input_ids": ids.to(torch.int32)}, scratch / "ids.safetensors")
    run(program, "logits", model, "--ids", scratch / "ids.safetensors", "--out", scratch / "logits.safetensors")
    return load_file(scratch / "logits.safetensors")["logits"]


def from_the_cache(model, ids):
    """Logits of a prompt of 4 ids, then of one id at a time."""
    step = model(ids[:, :4], use_cache=True)
    logits = [step.logits]
    for at in range(4, ids.shape[1]):
        step = model(ids[:, at:at + 1], past_key_values=step.past_key_values, use_cache=True)
        logits.append(step.logits)
    return torch.cat(logits, dim=1)


def padded_left(model, ids, padding=PADDING):
    mask = torch.ones(2, ids.shape[1] + padding, dtype=torch.long)
    mask[1, :padding] = 0
    both = torch.stack([torch.cat([ids[0], ids[0, :padding]]), torch.cat([ids[0, :padding], ids[1]])])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    return model(both, attention_mask=mask, position_ids=positions).logits[1, padding:]


@torch.no_grad()
def check(program, model_path, folder, scratch):
    """(differences by name, greedy ids that agree)"""
    model, notes = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, torch_dtype=torch.float32, output_loading_info=True)
    if notes["missing_keys"] or notes["mismatched_keys"] or notes["unexpected_keys"]:
        sys.exit(f"check_export.py: {folder}: {notes}")
    config = model.eval().config
    # Never beyond the context: there dynamic rope makes a text in one pass another one than in steps.
    length = min(48, config.max_position_embeddings - PADDING)
    new_ids = min(NEW_IDS, length - PROMPT_IDS)
    ids = spread_ids(config.vocab_size, 2, length)
    ours = logits_of_program(program, model_path, ids, scratch)
    scale = max(1.0, ours.abs().max().item())
    theirs = {"logits": (model(ids).logits, ours), "padding": (padded_left(model, ids), ours[1]),
              "cache": (from_the_cache(model, ids), ours)}
    differences = {name: (a - b).abs().max().item() / scale for name, (a, b) in theirs.items()}
    prompt = ids[:, :PROMPT_IDS]
    generated = model.generate(prompt, max_new_tokens=new_ids, do_sample=False, eos_token_id=None, pad_token_id=0,
                               attention_mask=torch.ones_like(prompt))
    choices = logits_of_program(program, model_path, generated, scratch).argmax(-1)[:, PROMPT_IDS - 1:-1]
    return differences, (choices == generated[:, PROMPT_IDS:]).sum().item(), choices.numel()


def report(label, program, model_path, folder, scratch):
    differences, same, of = check(program, model_path, folder, scratch)
    good = same == of and all(d <= TOLERANCE for d in differences.values())
    numbers = "  ".join(f"{name} {value:.1e}" for name, value in differences.items())
    print(f"{label:<58} {numbers}  greedy {same}/{of}  {'ok' if good else 'FAILED'}", flush=True)
    return good


def conversions(config):
    """Options of every strategy and method that the layouts know."""
    pairs = (config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]) // 2
    dims = ["--latent-dims", str(max(1, pairs // 2))]
    for strategy in ["full", "none", "high", "low", "uniform", "high-low", "2-norm"]:
        kept = [] if strategy in ("full", "none") else ["--rope-pairs", str(max(1, pairs // 3))]
        for method in ["joint", "split", "none"]:
            if strategy == "full" and method != "joint":
                continue
            yield (f"{strategy} {method}", ["--rope", strategy, *kept, "--latent", method,
                                            *([] if method == "none" else dims)])


def matrix(program, sources, scratch):
    good = True
    for source in sources:
        config = json.loads((source / "config.json").read_text())
        ids = scratch / "calibration.safetensors"
        save_file({"input_ids": spread_ids(config["vocab_size"], 4, 16).to(torch.int32)}, ids)
        for name, options in conversions(config):
            with tempfile.TemporaryDirectory(dir=scratch) as place:
                mla = Path(place) / "mla"
                run(program, "convert", source, *options, "--ids", ids, "--out", mla)
                for layout in ["v1", "v2"]:
                    folder = Path(place) / layout
                    done = subprocess.run([str(program), "export", str(mla), "--layout", layout, "--out", str(folder)],
                                          capture_output=True, text=True)
                    label = f"{source.name} {name} {layout}"
                    if done.returncode == 78:
                        print(f"{label:<58} not exported:{done.stderr.strip().split('error:')[1]}", flush=True)
                    elif done.returncode != 0:
                        sys.exit(f"check_export.py: {done.stderr.strip()}")
                    else:
                        good &= report(label, program, mla, folder, scratch)
                if name == "full joint":
                    dense = Path(place) / "dense"
                    run(program, "export", mla, "--format", "dense", "--out", dense)
                    good &= report(f"{source.name} {name} dense", program, mla, dense, scratch)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH")
    parser.add_argument("--matrix", action="store_true")
    options = parser.parse_args()
    if not options.matrix and len(options.paths) != 2:
        parser.error("expected MODEL and FOLDER")
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory(prefix="check-export-") as scratch:
        if options.matrix:
            good = matrix(options.program, options.paths, Path(scratch))
        else:
            good = report(options.paths[1].name, options.program, *options.paths, Path(scratch))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
