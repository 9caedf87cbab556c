#!/usr/bin/env bash
# The long torture: about an hour for 1,000 kills on 2 cores; see docs/running.md.
#   scripts/torture.sh [--kills 1000] [--seed N] [--json FILE] ...    options of tests/torture/torture.py
# BUILD_DIR: where mha2mla is (default: build/release).
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 tests/torture/torture.py "${BUILD_DIR:-build/release}/mha2mla" . "$@"
