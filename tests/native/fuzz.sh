#!/usr/bin/env bash
# Fuzzes the kernels' doors under ASan + UBSan: the C doors, then what Python puts before them.
#
#     tests/native/fuzz.sh PYTHON SECONDS       of each of the two; PYTHON's folder may hold a cmake
#
# With clang, libFuzzer steers the inputs by coverage; without, they are random from seeds.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:?usage: fuzz.sh PYTHON SECONDS}
seconds=${2:?usage: fuzz.sh PYTHON SECONDS}
PATH="$(dirname "$(realpath -s "$python")"):$PATH"
work=$PWD/build/fuzz
mkdir -p "$work/corpus"
export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export OMP_NUM_THREADS=1
checks="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"

build() {
  local name=$1 cxx=$2 flags=$3
  cmake -S kernels -B "$work/$name" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER="$cxx" \
    -DCMAKE_CXX_FLAGS="$flags" -DCMAKE_SHARED_LINKER_FLAGS="$flags" >"$work/cmake.log" 2>&1 ||
    { cat "$work/cmake.log" >&2; exit 1; }
  cmake --build "$work/$name" --parallel 2 >"$work/make.log" 2>&1 || { cat "$work/make.log" >&2; exit 1; }
}

has_libfuzzer() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' >"$work/try.cpp"
  clang++ -fsanitize=fuzzer "$work/try.cpp" -o "$work/try" 2>/dev/null
}

if has_libfuzzer; then
  echo "== C doors, libFuzzer, $seconds s"
  build clang clang++ "$checks -fsanitize=fuzzer-no-link"
  # shellcheck disable=SC2086
  clang++ -std=c++17 -O1 -g $checks -fsanitize=fuzzer -pthread tests/native/fuzz_doors.cpp \
    -L"$work/clang" -ledgebench_kernels -Wl,-rpath,"$work/clang" -o "$work/clang/fuzz_doors"
  "$work/clang/fuzz_doors" -max_total_time="$seconds" -max_len=64 -len_control=0 -print_final_stats=1 \
    -artifact_prefix="$work/" "$work/corpus" 2>"$work/libfuzzer.log" ||
    { tail -n 80 "$work/libfuzzer.log" >&2; exit 1; }
  grep -E '^(Done|stat::number_of_executed_units|.*DONE)' "$work/libfuzzer.log"
else
  echo "== C doors, seeded (no clang with libFuzzer), $seconds s"
  build gcc "${CXX:-g++}" "$checks"
  # shellcheck disable=SC2086
  "${CXX:-g++}" -std=c++17 -O1 -g $checks -pthread tests/native/fuzz_doors.cpp tests/native/fuzz_main.cpp \
    -L"$work/gcc" -ledgebench_kernels -Wl,-rpath,"$work/gcc" -o "$work/gcc/fuzz_doors"
  "$work/gcc/fuzz_doors" "$seconds"
fi

echo "== Python before them, seeded, $seconds s"
build gcc "${CXX:-g++}" "$checks"
# Python itself leaks by intention; the sanitizer must be there before it starts.
EDGEBENCH_KERNELS_LIBRARY=$work/gcc/libedgebench_kernels.so ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 \
  LD_PRELOAD="$("${CXX:-g++}" -print-file-name=libasan.so) $("${CXX:-g++}" -print-file-name=libstdc++.so)" \
  "$python" tests/native/fuzz_python.py "$seconds"
