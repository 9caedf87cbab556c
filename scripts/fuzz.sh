#!/usr/bin/env bash
# Builds the fuzz targets of tests/fuzz with clang (AddressSanitizer, UBSan, libFuzzer), runs them and
# prints what they did. A finding ends with status 1 and its input in build/fuzz/findings.
#   scripts/fuzz.sh [TARGET...|all] [--seconds N | --executions N] [--jobs J] [--minimise]
#   --seconds N      per target (default 60)
#   --executions N   per target instead, for at most an hour of processor time each
#   --jobs J         targets at a time (default 1)
#   --minimise       then adds to tests/fuzz/corpus what reaches something new, and only that
# Wants the Debian packages clang and llvm (coverage), which building and testing do not.
set -euo pipefail
exec </dev/null
cd "$(dirname "$0")/.."

build=${FUZZ_BUILD:-build/fuzz}
corpus=tests/fuzz/corpus
limits=(-rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=2 -print_final_stats=1)
seconds=60 executions=0 jobs=1 minimise=0
targets=()

fail() { echo "fuzz: error: $*" >&2; exit 64; }
while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) seconds=${2:?} executions=0; shift ;;
    --executions) executions=${2:?} seconds=3600; shift ;;
    --jobs) jobs=${2:?}; shift ;;
    --minimise) minimise=1 ;;
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
cmake -S tests/fuzz -B "$build" -G Ninja -DCMAKE_CXX_COMPILER=clang++ >"$build.log" 2>&1 ||
  { cat "$build.log" >&2; exit 1; }
cmake --build "$build" -j "$(nproc)" --target "${programs[@]}" >"$build.log" 2>&1 ||
  { cat "$build.log" >&2; exit 1; }

# Length of an input: enough for every seed, little enough to be fast.
max_length() { case "$1" in tokenizer_json) echo 8192 ;; tokenizer_text) echo 512 ;; *) echo 4096 ;; esac; }

run() {
  local target=$1 found="$build/corpus/$1" log="$build/$1.log" dictionary="tests/fuzz/dictionaries/$1.dict"
  mkdir -p "$found" "$build/findings"
  local arguments=("${limits[@]}" -max_len="$(max_length "$target")" -max_total_time="$seconds"
    -artifact_prefix="$build/findings/$target-")
  [ "$executions" = 0 ] || arguments+=(-runs="$executions")
  [ ! -f "$dictionary" ] || arguments+=(-dict="$dictionary")
  "$build/fuzz_$target" "${arguments[@]}" "$found" "$corpus/$target" >"$log" 2>&1
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

printf '%-16s %12s %8s %8s %8s %s\n' target executions exec/s features corpus result
for target in "${targets[@]}"; do
  log="$build/$target.log"
  stat() { sed -n "s/^stat::$1: *//p" "$log"; }
  features=$(grep -oE 'ft: [0-9]+' "$log" | tail -n 1 | cut -c 5-)
  result=ok
  grep -q 'DONE\|Done' "$log" || result="FINDING, see $log"
  printf '%-16s %12s %8s %8s %8s %s\n' "$target" "$(stat number_of_executed_units)" \
    "$(stat average_exec_per_sec)" "${features:-0}" "$(find "$build/corpus/$target" -type f | wc -l)" "$result"
done

if [ $minimise = 1 ]; then
  for target in "${targets[@]}"; do
    "$build/fuzz_$target" -merge=1 -max_len="$(max_length "$target")" "$corpus/$target" "$build/corpus/$target" \
      >"$build/$target.merge.log" 2>&1
  done
fi
exit $failed
