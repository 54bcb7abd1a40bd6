"""Kernels tuned to this machine before anything is measured: chosen by timing, then applied.

The timing runs in a process of its own, so that its weights do not count as this run's memory.
"""

from __future__ import annotations

import json
import subprocess
import sys

from edgebench.errors import DeviceUnavailable, RunFailed
from edgebench.record import KernelTuning
from edgebench_kernels import native

MODULE = "edgebench_kernels.tuning"
TIMEOUT_S = 120.0  # a hundred times what it takes


def tune_kernels() -> KernelTuning:
    """Time the rivals with the threads and instruction set in use; a second. See apply_tuning."""
    settings = ["--threads", str(native.threads()), "--isa", native.isa()]
    command = [sys.executable, "-m", MODULE, *settings]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
        found = json.loads(done.stdout)
        return KernelTuning(prefetch_bytes=found["prefetch_bytes"], few_tokens=found["few_tokens"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        said = getattr(error, "stderr", None) or str(error)
        last = said.strip().splitlines()[-1:] or [type(error).__name__]
        raise RunFailed(f"[run] the kernels could not be tuned: {last[0]}") from error


def present_tuning() -> KernelTuning:
    """How the kernels are set already, for a run that measures no speed.

    Raises DeviceUnavailable where they are not compiled.
    """
    try:
        return KernelTuning(
            prefetch_bytes=native.prefetch_bytes(),
            few_tokens={path: native.few_tokens(path) for path in native.FAMILIES},
        )
    except native.NativeLibraryMissing as error:
        raise DeviceUnavailable(str(error)) from error


def apply_tuning(tuning: KernelTuning) -> None:
    """Have the kernels use these choices from now on."""
    native.set_prefetch_bytes(tuning.prefetch_bytes)
    for path, tokens in tuning.few_tokens.items():
        native.set_few_tokens(path, tokens)
