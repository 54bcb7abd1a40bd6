#!/usr/bin/env bash
# Runs the kernels' and the engine's tests once per instruction set that this machine has.
#
#     tests/native/every_isa.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}

for isa in scalar avx2 avx2_vnni avx512_vnni amx_int8 neon neon_dotprod neon_i8mm; do
  export EDGEBENCH_ISA=$isa
  if [ "$("$python" -c 'from edgebench_kernels import native; print(native.isa())' 2>/dev/null)" = "$isa" ]; then
    echo "== EDGEBENCH_ISA=$isa"
    "$python" -m pytest -q -m native tests/kernels
  elif [ "$isa" = scalar ]; then
    echo "every_isa.sh: the scalar path must work on every machine" >&2
    "$python" -c 'from edgebench_kernels import native; print(native.isa())'
    exit 1
  fi
done
