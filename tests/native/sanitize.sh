#!/usr/bin/env bash
# Builds the C++ kernels under sanitizers and drives them from C++ on awkward shapes:
# the pool alone under TSan, then the whole library under ASan + UBSan and under TSan, per instruction set.
#
#     tests/native/sanitize.sh PYTHON        (PYTHON's folder may hold a cmake)
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$(dirname "$(realpath -s "${1:-/usr/bin/python3}")"):$PATH"
cxx=${CXX:-g++}
build=$PWD/build/sanitized
mkdir -p "$build"

export ASAN_OPTIONS=abort_on_error=1:strict_string_checks=1:detect_stack_use_after_return=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS=halt_on_error=1

echo "== thread pool, ThreadSanitizer"
"$cxx" -std=c++17 -O1 -g -Wall -Wextra -fsanitize=thread -pthread tests/native/pool_driver.cpp \
  kernels/csrc/cpu/pool.cpp kernels/csrc/cpu/affinity.cpp kernels/csrc/cpu/huge_buffer.cpp -o "$build/pool_driver"
"$build/pool_driver"

drive() {
  local name=$1 flags=$2
  echo "== library, $name"
  cmake -S kernels -B "$build/$name" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER="$cxx" \
    -DCMAKE_CXX_FLAGS="$flags" -DCMAKE_SHARED_LINKER_FLAGS="$flags" >/dev/null
  cmake --build "$build/$name" --parallel 2 >/dev/null
  for program in driver step_driver; do
    # shellcheck disable=SC2086
    "$cxx" -std=c++17 -O1 -g -Wall -Wextra $flags -pthread "tests/native/$program.cpp" \
      -L"$build/$name" -ledgebench_kernels -Wl,-rpath,"$build/$name" -o "$build/$name/$program"
    "$build/$name/$program"
  done
}

drive asan-ubsan "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
drive tsan "-fsanitize=thread"
