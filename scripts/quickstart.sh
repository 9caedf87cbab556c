#!/usr/bin/env bash
# From a bare Debian 12 to a recovery table: builds the program, converts the embedded model to MLA,
# fine-tunes it for some minutes and prints what was lost and what came back. What exists is skipped.
#   scripts/quickstart.sh
#   BASELINE=1 scripts/quickstart.sh                 adds a row: the unconverted model, fine-tuned
#   TEXT="a.txt b.jsonl" scripts/quickstart.sh       on your own text (.txt or .jsonl, or with .gz)
set -euo pipefail
exec </dev/null

fail() { echo "quickstart: error: $*" >&2; exit 1; }

own_text=()
for file in ${TEXT:-}; do  # before leaving the folder
  if [ ! -f "$file" ] || [ ! -r "$file" ]; then fail "TEXT: $file: expected a readable file"; fi
  own_text+=("$(realpath -- "$file")")
done
cd "$(dirname "$0")/.."

program=build/release/mha2mla
corpus=runs/corpus
run=2-norm-r2-joint-c8
overrides=()
steps=5
[ "${BASELINE:-0}" = 1 ] && steps=6
step=0

begin() { step=$((step + 1)); echo; echo "[$step/$steps] $*"; }

on_exit() {
  local code=$?
  [ $code = 0 ] || echo "quickstart: stopped in step $step of $steps with exit code $code; the" \
    "lines above say why, and the next call goes on from here" >&2
}
trap on_exit EXIT

build() {
  local log=build/release.configure.log
  mkdir -p build
  if [ ! -e build/release/build.ninja ]; then
    cmake --preset release >"$log" 2>&1 || { cat "$log" >&2; return 1; }
  fi
  NINJA_STATUS='[%f/%t %es] ' cmake --build --preset release --target mha2mla -j "$(nproc)"
}

download_and_extract() {
  scripts/build_corpus.py "$corpus" --held-out scripts/held_out_sources.txt \
    --packages anarchism,dict-foldoc,postgresql-doc-15,git-doc,python3.11-doc
}

# The package lists may be missing or older than the archive.
update_package_lists() {
  echo "updating the package lists"
  if [ "$(id -u)" = 0 ]; then apt-get update -qq; else sudo -n apt-get update -qq; fi >/dev/null 2>&1
}

build_corpus() {
  local set split code=0
  for set in prose reference code; do
    for split in train val; do
      [ -s "$corpus/$set.$split.jsonl" ] || code=1
    done
  done
  [ $code = 0 ] && { echo "$corpus/*.jsonl: there already"; return; }
  code=0
  download_and_extract || code=$?
  if [ $code = 75 ] && update_package_lists; then
    code=0
    download_and_extract || code=$?
  fi
  return $code
}

# Sets `run` and `overrides`. The name of the run holds a hash of the text: other text, other run.
split_own_text() {
  local hash
  hash=$(cat -- "${own_text[@]}" | sha256sum | head -c 8)
  run=own-$hash
  mkdir -p "$corpus"
  if [ "$(cat "$corpus/own.hash" 2>/dev/null)" != "$hash" ]; then
    rm -f "$corpus"/own.*
    scripts/split_text.py "$corpus/own" "${own_text[@]}"
    echo "$hash" >"$corpus/own.hash"
  fi
  overrides=("general.run=$run" "validation.sets={own: $corpus/own.val.ds}"
    "data_stages=[{name: main, data: {dataset: {dataset_folder: [$corpus/own.train.ds], dataset_weights: [1.0]}}}]")
}

tokenize() {
  local set split name
  for set in "$@"; do
    for split in train val; do
      name=$corpus/$set.$split
      if [ -e "$name.ds" ] && [ ! "$name.jsonl" -nt "$name.ds" ]; then
        echo "$name.ds: there already"
      else
        "$program" tokenize --tokenizer examples/tiny-llama --out "$name" "$name.jsonl"
      fi
    done
  done
}

# Trains $1 (a configuration) into runs/tiny/$2, with the other arguments as overrides. A run that
# was interrupted goes on from its last checkpoint.
train() {
  local config=$1 result=runs/tiny/$2/result.json
  shift 2
  if [ -e "$result" ] && [ ! "$config" -nt "$result" ]; then
    echo "$result: there already"
    return
  fi
  # Two ranks share the cores between them, each with its threads; mpirun would bind each to one.
  local launcher=(mpirun -np 2 --bind-to none)
  [ "$(nproc)" -ge 2 ] || launcher+=(--oversubscribe)
  [ "$(id -u)" = 0 ] && launcher+=(--allow-run-as-root)
  # Containers often forbid the single copy between processes; Open MPI would print errors.
  launcher+=(--mca btl_vader_single_copy_mechanism none)
  "${launcher[@]}" "$program" train "$config" "$@"
}

begin "packages"
scripts/setup.sh

begin "build"
build
SECONDS=0

begin "text and tokens"
if [ ${#own_text[@]} -gt 0 ]; then
  split_own_text
  tokenize own
else
  build_corpus
  tokenize prose reference code
fi

begin "convert to MLA and fine-tune: configs/tiny.yaml"
train configs/tiny.yaml "$run" "${overrides[@]}"

table=("runs/tiny/$run")
if [ "${BASELINE:-0}" = 1 ]; then
  begin "fine-tune the unconverted model: configs/tiny-baseline.yaml"
  baseline=full-rope-baseline
  if [ ${#own_text[@]} -gt 0 ]; then
    baseline=$run-baseline
    overrides[0]="general.run=$baseline"
  fi
  train configs/tiny-baseline.yaml "$baseline" "${overrides[@]}"
  table+=("runs/tiny/$baseline")
fi

begin "result after $((SECONDS / 60)) min $((SECONDS % 60)) s"
echo
tools/recovery_table.py "${table[@]}"
echo
echo "Next: $program generate runs/tiny/$run --prompt \"The function returns\""
