#!/usr/bin/env bash
# Builds the fuzz targets of tests/fuzz with clang (AddressSanitizer, UBSan, libFuzzer), runs them and
# prints what they did. A finding ends with status 1 and its input in build/fuzz/findings.
#   scripts/fuzz.sh [TARGET...|all] [--seconds N | --executions N] [--jobs J] [--minimise]
#   --seconds N      per target (default 60)
#   --executions N   per target instead, or an hour of processor time, whichever is first
#   --jobs J         targets at a time (default 1)
#   --coverage       instead of fuzzing: the lines of each parser that its corpus reaches
#   --minimise       then adds to tests/fuzz/corpus what reaches something new, and only that
# Wants the Debian packages clang and llvm (coverage), which building and testing do not.
set -euo pipefail
exec </dev/null
cd "$(dirname "$0")/.."

build=${FUZZ_BUILD:-build/fuzz}
corpus=tests/fuzz/corpus
# Why not 512 MiB in all: AddressSanitizer keeps freed memory for a while; why 10 s: of a busy machine.
limits=(-rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=10 -print_final_stats=1)
# A tenth to a third faster: short stacks of allocations, less freed memory kept; a finding replays with the full ones.
export ASAN_OPTIONS=malloc_context_size=1:quarantine_size_mb=8:thread_local_quarantine_size_kb=64${ASAN_OPTIONS:+:$ASAN_OPTIONS}
seconds=60 executions=0 jobs=1 minimise=0 coverage=0
targets=()

fail() { echo "fuzz: error: $*" >&2; exit 64; }
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) seconds=${2:?} executions=0; shift ;;
    --executions) executions=${2:?}; shift ;;
    --jobs) jobs=${2:?}; shift ;;
    --minimise) minimise=1 ;;
    --coverage) coverage=1 ;;
    all) ;;
    -*) fail "unknown option $1" ;;
    *) [ -f "tests/fuzz/$1.cpp" ] || fail "no target $1"; targets+=("$1") ;;
  esac
  shift
done
if [ ${#targets[@]} = 0 ]; then
  for folder in "$corpus"/*/; do targets+=("$(basename "$folder")"); done
fi
command -v clang++ >/dev/null || fail "clang++ not found: apt-get install clang llvm"

programs=("${targets[@]/#/fuzz_}")

# The files that each target is there for.
sources_of() {
  case "$1" in
    safetensors) echo model/safetensors_header.cpp ;;
    gguf) echo model/gguf.cpp model/gguf_reader.cpp model/gguf_metadata.cpp model/gguf_config.cpp model/gguf_tokenizer.cpp ;;
    index_json) echo model/hf_index.cpp core/json.cpp ;;
    config_json) echo model/hf_config.cpp model/hf_rope.cpp model/hf_json.cpp ;;
    tokenizer_json) echo data/bpe_load.cpp data/pre_tokenizer.cpp data/tokenizer*.cpp ;;
    tokenizer_text) echo data/bpe.cpp data/bpe_boundaries.cpp data/pre_tokenizer_pattern.cpp ;;
    shard) echo data/shard_files.cpp ;;
    manifest) echo trainer/files/manifest.cpp ;;
    config_yaml) echo trainer/config/yaml.cpp trainer/config/config.cpp trainer/config/scalars.cpp trainer/config/check.cpp ;;
    text) echo data/text_reader.cpp data/byte_source.cpp ;;
    ids) echo trainer/files/ids_file.cpp ;;
    torch_tensor) echo model/torch_tensor.cpp model/torch_pickle.cpp model/stored_zip.cpp ;;
  esac
}

build_targets() {
  cmake -S tests/fuzz -B "$1" -G Ninja -DCMAKE_CXX_COMPILER=clang++ "${@:2}" >"$1.log" 2>&1 &&
    cmake --build "$1" -j "$(nproc)" --target "${programs[@]}" >"$1.log" 2>&1 ||
    { cat "$1.log" >&2; exit 1; }
}

mkdir -p "$(dirname "$build")"
if [ $coverage = 1 ]; then
  command -v llvm-cov >/dev/null || fail "llvm-cov not found: apt-get install llvm"
  build=$build-coverage
  build_targets "$build" -DFUZZ_COVERAGE=ON
  printf '%-16s %-36s %6s %6s %8s\n' target file lines missed covered
  for target in "${targets[@]}"; do
    LLVM_PROFILE_FILE="$build/$target.raw" "$build/fuzz_$target" "$corpus/$target" ${FUZZ_FOUND:+"$FUZZ_FOUND/$target"} \
      >"$build/$target.log"
    llvm-profdata merge "$build/$target.raw" -o "$build/$target.profile"
    # shellcheck disable=SC2046 # a list of files
    llvm-cov export -summary-only -instr-profile "$build/$target.profile" "$build/fuzz_$target" \
      $(sources_of "$target") |
      python3 -c '
import json, os, sys
for file in json.load(sys.stdin)["data"][0]["files"]:
    lines = file["summary"]["lines"]
    print("%-16s %-36s %6d %6d %7.1f%%" % (sys.argv[1], os.path.relpath(file["filename"]), lines["count"],
                                           lines["count"] - lines["covered"], lines["percent"]))' "$target"
  done
  exit 0
fi
build_targets "$build"

# Length of an input: enough for every seed, little enough to be fast.
max_length() { case "$1" in tokenizer_json|gguf) echo 8192 ;; tokenizer_text) echo 512 ;; *) echo 4096 ;; esac; }

# One target in slices, until the time, the executions or the hour of processor time are used up.
run() {
  local target=$1 found="$build/corpus/$1" log="$build/$1.log" dictionary="tests/fuzz/dictionaries/$1.dict"
  local done=0 used=0 slice=$seconds left=-1 status=0 now
  local TIMEFORMAT='%U %S'
  mkdir -p "$found" "$build/findings"
  : >"$log"
  local arguments=("${limits[@]}" -max_len="$(max_length "$target")" -artifact_prefix="$build/findings/$target-")
  [ ! -f "$dictionary" ] || arguments+=(-dict="$dictionary")
  while :; do
    [ "$executions" = 0 ] || { slice=300 left=$((executions - done)); }
    { time "$build/fuzz_$target" "${arguments[@]}" -runs="$left" -max_total_time="$slice" "$found" "$corpus/$target" \
      >"$log.slice" 2>&1 || status=$?; } 2>"$log.time"
    cat "$log.slice" >>"$log"
    now=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log.slice")
    done=$((done + ${now:-0}))
    used=$(awk -v used="$used" '{print used + $1 + $2}' "$log.time")
    echo "$done $used" >"$log.total"
    [ $status = 0 ] || return $status
    [ "$executions" != 0 ] && [ "$done" -lt "$executions" ] && [ "${used%.*}" -lt 3600 ] || return 0
  done
}

failed=0 running=0
for target in "${targets[@]}"; do
  run "$target" &
  running=$((running + 1))
  if [ $running -ge "$jobs" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
done
while [ $running -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done

printf '%-16s %12s %8s %8s %8s %8s %s\n' target executions seconds exec/s features corpus result
for target in "${targets[@]}"; do
  log="$build/$target.log"
  read -r done used <"$log.total"
  features=$(grep -oE 'ft: [0-9]+' "$log" | tail -n 1 | cut -c 5- || true)
  result=ok
  tail -n 30 "$log" | grep -q '^Done' || result="FINDING, see $log"
  printf '%-16s %12s %8.0f %8.0f %8s %8s %s\n' "$target" "$done" "$used" \
    "$(awk -v n="$done" -v s="$used" 'BEGIN {print n / (s + 0.001)}')" "${features:-0}" \
    "$(find "$build/corpus/$target" -type f | wc -l)" "$result"
done

if [ $minimise = 1 ]; then
  for target in "${targets[@]}"; do
    # As few files as reach every new place; how often they reach it does not count.
    "$build/fuzz_$target" -merge=1 -set_cover_merge=1 -use_counters=0 -max_len="$(max_length "$target")" \
      -artifact_prefix="$build/findings/$target-" "$corpus/$target" "$build/corpus/$target" \
      >"$build/$target.merge.log" 2>&1
  done
fi
exit $failed
