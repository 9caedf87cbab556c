#!/usr/bin/env bash
# Installs what is missing, builds everything and runs every test.
#   scripts/test.sh [arguments of ctest, e.g. -R core]
#   SANITIZE=1 scripts/test.sh    the unit tests once more under AddressSanitizer and UBSan
set -euo pipefail
exec </dev/null
cd "$(dirname "$0")/.."

jobs=$(nproc)
export NINJA_STATUS='[%f/%t %es] '
# The tests start several ranks on whatever cores there are.
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1
# Containers often forbid the single copy between processes; without this Open MPI prints errors.
export OMPI_MCA_btl_vader_single_copy_mechanism=none
if [ "$(id -u)" = 0 ]; then
  echo "test: running mpirun as root (OMPI_ALLOW_RUN_AS_ROOT=1)"
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# Builds preset $1 and runs its tests with the other arguments.
build_and_test() {
  local preset=$1
  shift
  echo "test: building preset $preset"
  cmake --preset "$preset" >"build/$preset.configure.log" 2>&1 || {
    cat "build/$preset.configure.log" >&2
    return 1
  }
  cmake --build --preset "$preset" -j "$jobs"
  echo "test: running the tests of preset $preset"
  ctest --preset "$preset" -j "$jobs" --no-tests=error "$@"
}

scripts/setup.sh
mkdir -p build
build_and_test release "$@"
if [ "${SANITIZE:-0}" = 1 ]; then
  build_and_test asan -L unit "$@"
fi
# A clang++ may lack the libraries of its sanitizers, which are a package of their own.
can_fuzz() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    clang++ -x c++ - -fsanitize=fuzzer,address,undefined -o build/can_fuzz >/dev/null 2>&1 &&
    build/can_fuzz -runs=1 >/dev/null 2>&1
}

# Ten seconds of new inputs per parser; the old ones were replayed above.
if [ $# -gt 0 ]; then
  :  # only some tests were asked for
elif can_fuzz; then
  echo "test: fuzzing every parser for 10 seconds"
  scripts/fuzz.sh all --seconds 10 --jobs "$jobs"
else
  echo "test: no clang++ with libFuzzer, parsers are not fuzzed (apt-get install clang llvm)"
fi
