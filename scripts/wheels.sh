#!/usr/bin/env bash
# Builds the wheels of EdgeBench for Linux on x86_64 and aarch64, on either machine, into dist/.
#
#     scripts/wheels.sh [--unproved] [ARCH...]        default: x86_64 aarch64
#
# A wheel counts as built when tests/native/probe.cpp has loaded its library and found its answers
# right: on this machine, or for another architecture under qemu-user (apt-get install
# qemu-user-static; for aarch64 also g++-aarch64-linux-gnu, whose C library the probe runs on).
# Without them the wheel is named unproved and the exit code is 3, or 0 with --unproved.
#
# The compiler is the clang of the PyPI package `ziglang`: it carries the headers and symbol lists of
# every glibc, so the library asks for no newer one than the wheel's tag says, and links libc++ in.
# PYTHON  the interpreter that runs the build (default python3); the tools live in build/wheels/venv.
set -euo pipefail
cd "$(dirname "$0")/.."

glibc=2.17 # manylinux2014: CentOS 7, Ubuntu 14.04, every JetPack with Python 3.10
tools=(ziglang==0.15.* build scikit-build-core wheel cmake ninja)
work=$PWD/build/wheels
library=edgebench_kernels/libedgebench_kernels.so
may_be_unproved=0
[ "${1:-}" = --unproved ] && may_be_unproved=1 && shift
[ $# -gt 0 ] || set -- x86_64 aarch64

fail() {
  echo "wheels.sh: $*" >&2
  exit 1
}

make_venv() {
  [ -e "$work/venv/.ready" ] && return
  rm -rf "$work/venv"
  "${PYTHON:-python3}" -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check "${tools[@]}"
  touch "$work/venv/.ready"
}

# The compiler that CMake calls: zig's clang, aimed at one architecture and one glibc.
make_compiler() {
  local arch=$1 zig
  zig=$("$work/venv/bin/python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / "zig")')
  # zig reads -march on aarch64 as the name of a CPU; what GCC and clang mean by it is said its way.
  cat >"$work/$arch/c++" <<WRAPPER
#!/bin/bash
arguments=("\$@")
arguments=("\${arguments[@]/#-march=armv8-a/-mcpu=generic}")
arguments=("\${arguments[@]/#-march=armv8.2-a/-mcpu=generic+v8_2a}")
exec "$zig" c++ -target $arch-linux-gnu.$glibc -fno-sanitize=all "\${arguments[@]}"
WRAPPER
  chmod +x "$work/$arch/c++"
}

build_wheel() {
  local arch=$1 platform=manylinux_${glibc/./_}_$1.manylinux2014_$1
  rm -rf "${work:?}/$arch"
  mkdir -p "$work/$arch/raw" dist
  make_compiler "$arch"
  # CMAKE_SYSTEM_NAME makes it a cross build, which strips with the linker: the machine's strip may not know ARCH.
  PATH="$work/venv/bin:$PATH" "$work/venv/bin/python" -m build --wheel --no-isolation --outdir "$work/$arch/raw" \
    -C build-dir="$work/$arch/cmake" \
    -C install.strip=false \
    -C cmake.define.CMAKE_SYSTEM_NAME=Linux \
    -C cmake.define.CMAKE_SYSTEM_PROCESSOR="$arch" \
    -C cmake.define.CMAKE_CXX_COMPILER="$work/$arch/c++" \
    -C cmake.define.CMAKE_SHARED_LINKER_FLAGS=-s \
    -C cmake.define.CMAKE_LINK_DEPENDS_USE_LINKER=OFF \
    -C cmake.define.EDGEBENCH_KERNELS_WERROR=ON . >"$work/$arch/build.log" 2>&1 ||
    fail "$arch did not build: $(tail -n 30 "$work/$arch/build.log")"
  ! grep "this compiler lacks" "$work/$arch/build.log" >&2 || fail "$arch was built without an instruction set"
  rm -f dist/edgebench-*_"$arch".whl
  "$work/venv/bin/python" -m wheel tags --remove --python-tag py3 --abi-tag none --platform-tag "$platform" \
    "$work/$arch"/raw/edgebench-*.whl >/dev/null
  mv "$work/$arch"/raw/edgebench-*.whl dist/
}

# What the tag promises: this architecture, no glibc above its own, no C++ library from outside.
check_wheel() {
  local arch=$1 wheels=(dist/edgebench-*_"$1".whl) file=$work/$1/wheel/$library machine newest needed
  [ ${#wheels[@]} -eq 1 ] && [ -e "${wheels[0]}" ] || fail "dist/ should hold one wheel for $arch: ${wheels[*]}"
  "$work/venv/bin/python" -m zipfile -e "${wheels[0]}" "$work/$arch/wheel"
  [ -e "$file" ] || fail "${wheels[0]} has no $library"
  grep -qx "Tag: py3-none-manylinux_${glibc/./_}_$arch" "$work/$arch"/wheel/*.dist-info/WHEEL ||
    fail "${wheels[0]} does not say the tag it is named by"
  machine=$(LC_ALL=C readelf -h "$file" | sed -n 's/^ *Machine: *//p')
  case $arch,$machine in
    x86_64,*X86-64 | aarch64,AArch64) ;;
    *) fail "$library in ${wheels[0]} is for $machine" ;;
  esac
  newest=$(readelf -VW "$file" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
  [ "$(printf '%s\n' "GLIBC_$glibc" "$newest" | sort -V | tail -n 1)" = "GLIBC_$glibc" ] ||
    fail "$library needs $newest, the tag promises GLIBC_$glibc"
  needed=$(LC_ALL=C readelf -dW "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | paste -sd ' ')
  for name in $needed; do
    case $name in
      libc.so.6 | libm.so.6 | libpthread.so.0 | libdl.so.2 | librt.so.1 | ld-linux*) ;;
      *) fail "$library needs $name, which an old system may lack" ;;
    esac
  done
  echo "wheels.sh: ${wheels[0]} ($(stat -c %s "$file") bytes of library, newest symbol $newest, needs $needed)"
}

# Runs the probe against the wheel's library; 1 when this machine cannot.
prove_wheel() {
  local arch=$1 probe=$work/$1/probe qemu run=()
  if [ "$arch" != "$(uname -m)" ]; then
    qemu=$(command -v "qemu-$arch-static" || command -v "qemu-$arch") || return 1
    [ -d "/usr/$arch-linux-gnu/lib" ] || return 1
    run=("$qemu" -L "/usr/$arch-linux-gnu" -cpu max)
  fi
  "$work/$arch/c++" -std=c++17 -O1 -s tests/native/probe.cpp -ldl -o "$probe" 2>"$work/$arch/probe.log" ||
    fail "the probe did not build: $(tail -n 20 "$work/$arch/probe.log")"
  "${run[@]}" "$probe" "$work/$arch/wheel/$library" || fail "the $arch library is wrong: its wheel is not to be used"
}

command -v readelf >/dev/null || fail "no readelf: apt-get install binutils"
mkdir -p "$work"
make_venv
unproved=()
for arch in "$@"; do
  case $arch in
    x86_64 | aarch64) ;;
    *) fail "no wheel for $arch: x86_64 or aarch64" ;;
  esac
  build_wheel "$arch"
  check_wheel "$arch"
  prove_wheel "$arch" || unproved+=("$arch")
done
[ ${#unproved[@]} -eq 0 ] && exit 0
echo "wheels.sh: UNPROVED, never run: ${unproved[*]}; apt-get install qemu-user-static g++-aarch64-linux-gnu, then again" >&2
[ "$may_be_unproved" -eq 1 ] || exit 3
