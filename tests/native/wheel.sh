#!/usr/bin/env bash
# Proves a built wheel in a fresh environment, outside the checkout: help, a table, one real quick run.
#
#     tests/native/wheel.sh WHEEL FOLDER
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
wheel=$(realpath "$1")
folder=$(realpath "$2")
python=${PYTHON:-python3}

cd "$folder"
"$python" -m venv venv
index=()
case ${TORCH_INDEX:-default} in
  default) ;;
  *) index=(--extra-index-url "$TORCH_INDEX") ;;
esac
wanted=$(sed -n 's/^ *"\(torch[<>=][^"]*\)".*/\1/p' "$root/pyproject.toml")
venv/bin/pip install --quiet "${index[@]}" "$wanted" "$wheel"

venv/bin/bench --help
venv/bin/bench list workloads
venv/bin/bench run --track closed --workload assistant --scenario single-stream --profile quick --budget 60 \
  --out submissions
bundle=$(dirname "$(find submissions -name record.json | head -n 1)")
venv/bin/bench check "$bundle"
venv/bin/python -c 'import edgebench, edgebench_kernels; print(edgebench.__file__); print(*edgebench_kernels.__path__)'
