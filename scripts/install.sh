#!/usr/bin/env bash
# Makes the virtual environment and installs EdgeBench into it, editable.
#
#     scripts/install.sh VENV EXTRAS        e.g. scripts/install.sh .venv test,loadgen
#
# Where there is an NVIDIA GPU, what its kernels and its power meter need comes along: the extra
# `nvidia`, on a Jetson `jetson`.
#
# PYTHON       the interpreter of the environment (default python3)
# TORCH_INDEX  where torch comes from: a URL, or `default` for what pip is set up with. Unset on Linux
#              without an NVIDIA GPU: PyTorch's CPU index where it can be reached, because the default
#              build there brings several GB of CUDA libraries along.
set -euo pipefail

venv=${1:?usage: scripts/install.sh VENV EXTRAS}
extras=${2:-}
python=${PYTHON:-python3}
cpu_index=https://download.pytorch.org/whl/cpu

fail() {
  echo "edgebench: $*" >&2
  exit 1
}

check_machine() {
  command -v "$python" >/dev/null ||
    fail "no $python: install Python 3.10 or newer (apt-get install python3 python3-venv)"
  "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 10))' ||
    fail "Python 3.10 or newer is needed, $python is $("$python" -V 2>&1); name another: make PYTHON=python3.12"
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments: apt-get install python3-venv"
  command -v "${CXX:-g++}" >/dev/null || command -v c++ >/dev/null || command -v clang++ >/dev/null ||
    fail "no C++ compiler: apt-get install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora)"
}

has_nvidia_gpu() {
  command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU
}

reachable() {
  "$venv/bin/python" - "$1" 2>/dev/null <<'PY'
import sys, urllib.request
urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=5).close()
PY
}

install_torch() {
  "$venv/bin/python" -c 'import torch' 2>/dev/null && return
  local wanted index=${TORCH_INDEX:-}
  wanted=$(sed -n 's/^ *"\(torch[<>=][^"]*\)".*/\1/p' pyproject.toml)
  if [ -e /etc/nv_tegra_release ] && [ -z "$index" ]; then
    fail "on a Jetson, install NVIDIA's build of $wanted first, or name its index: make TORCH_INDEX=URL"
  fi
  if [ -z "$index" ] && [ "$(uname -s)" = Linux ] && ! has_nvidia_gpu && reachable "$cpu_index"; then
    index=$cpu_index
  fi
  case $index in
    '' | default) "$venv/bin/python" -m pip install "$wanted" ;;
    *) "$venv/bin/python" -m pip install "$wanted" --index-url "$index" ;;
  esac
}

gpu_extra() {
  if [ -e "${TEGRA_RELEASE:-/etc/nv_tegra_release}" ]; then
    echo jetson
  elif has_nvidia_gpu; then
    echo nvidia
  fi
}

cd "$(dirname "$0")/.."
check_machine
# An environment without pip is what an interrupted run left behind.
[ -x "$venv/bin/pip" ] || "$python" -m venv "$venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
install_torch
gpu=$(gpu_extra)
extras=${extras:+$extras${gpu:+,}}$gpu
"$venv/bin/python" -m pip install -e ".${extras:+[$extras]}"
