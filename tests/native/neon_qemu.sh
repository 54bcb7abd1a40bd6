#!/usr/bin/env bash
# Cross-compiles the kernels for aarch64 and runs every NEON room under qemu-user, on CPUs without
# dotprod, with it, and with i8mm.
#
#     tests/native/neon_qemu.sh
#
# Without a cross compiler or qemu it says so and passes, unless EDGEBENCH_REQUIRE_QEMU=1.
set -euo pipefail
cd "$(dirname "$0")/../.."

compiler=${AARCH64_CXX:-aarch64-linux-gnu-g++}
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64 || true)
missing=
command -v "$compiler" >/dev/null || missing="$compiler (Debian: g++-aarch64-linux-gnu)"
[ -n "$qemu" ] || missing="${missing:+$missing and }qemu-aarch64 (Debian: qemu-user-static)"
if [ -n "$missing" ]; then
  echo "neon_qemu.sh: NEON kernels not run: there is no $missing"
  [ "${EDGEBENCH_REQUIRE_QEMU:-0}" != 1 ] || exit 1
  exit 0
fi

build=build/aarch64
mkdir -p "$build"
cmake -S kernels -B "$build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER="$compiler" -DEDGEBENCH_KERNELS_WERROR=ON >/dev/null
cmake --build "$build" -j"$(nproc)" >"$build/log" 2>&1 || { cat "$build/log" >&2; exit 1; }
objects=("$build"/CMakeFiles/edgebench_kernels.dir/csrc/cpu/*.o)
for program in rooms driver step_driver; do
  "$compiler" -std=c++17 -O2 -Wall -Wextra -static -pthread -o "$build/$program" \
    "tests/native/$program.cpp" "${objects[@]}"
done

for pair in cortex-a72:neon neoverse-n1:neon_dotprod max:neon_i8mm; do
  echo "== ${pair%:*}"
  "$qemu" -cpu "${pair%:*}" "$build/rooms" "${pair#*:}"
done
echo "== doors on aarch64"
"$qemu" -cpu max "$build/driver"
"$qemu" -cpu max "$build/step_driver"
