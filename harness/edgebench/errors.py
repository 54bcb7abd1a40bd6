"""The errors EdgeBench raises, each with the exit code that the command line returns for it.

    BenchError (1)
    ├── SpecError (2)            an unknown name, a malformed task file, a contradictory option
    ├── DeviceUnavailable (3)    the machine is not what was asked for, or is not ready
    ├── RunFailed (4)            a run could not finish
    │   ├── AssetError (4)       weights or data are missing, truncated or altered
    │   └── StorageError (4)     the output disk is full or not writable
    │       └── WriteFailed (4)  a disk failed; what was on it before is whole
    ├── MeasurementInvalid (4)   the numbers were taken, and must not be believed
    └── BundleError (5)          a bundle is hostile, edited or unreadable
        └── RuleViolation (5)    a bundle is readable and breaks a rule

Text = ``[where] what was expected, what came, what to do``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

from edgebench_workloads.errors import WorkloadAssetError, WorkloadError


class BenchError(Exception):
    """The root: a fault that EdgeBench itself detected; on its own, our bug."""

    exit_code: ClassVar[int] = 1


class SpecError(BenchError):
    """The request cannot be understood: an unknown name, a malformed file, a contradiction."""

    exit_code = 2


class DeviceUnavailable(BenchError):
    """The machine is not the device that was asked for, or is not ready."""

    exit_code = 3


class RunFailed(BenchError):
    """A run could not finish; what was measured is kept."""

    exit_code = 4


class AssetError(RunFailed):
    """Weights or data are missing, truncated or altered."""


class StorageError(RunFailed):
    """The output disk is full or not writable."""


class WriteFailed(StorageError):
    """A disk that filled up or failed; what was on it before is whole."""


class MeasurementInvalid(BenchError):
    """Numbers were taken under conditions in which they must not be believed."""

    exit_code = 4


class BundleError(BenchError):
    """A bundle is hostile, edited or unreadable."""

    exit_code = 5


class RuleViolation(BundleError):
    """A readable bundle breaks a rule."""


EXIT_OK = 0
EXIT_INTERRUPTED = 130  # 128 + SIGINT, POSIX shells


def unknown_name(where: str, what: str, came: str, known: Iterable[str]) -> SpecError:
    """Compose the error for a name that a table does not hold, with the nearest that it does."""
    names = sorted(known)
    nearest = difflib.get_close_matches(came, names, n=1, cutoff=0.5)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return SpecError(f"[{where}] expected a {what} out of {', '.join(names)}, got {came!r}{hint}")


def harness_error(error: WorkloadError) -> BenchError:
    """Map a workload's error to the harness's, which knows the exit code."""
    kind = AssetError if isinstance(error, WorkloadAssetError) else SpecError
    return kind(str(error))
