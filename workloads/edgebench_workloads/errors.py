"""What can be wrong with a workload; the harness maps each kind to its exit code.

    WorkloadError (ValueError)
    ├── UnknownWorkloadError     no workload of that name                     exit code 2
    ├── TaskFileError            task.toml is malformed                       exit code 2
    └── WorkloadAssetError       weights or data missing, truncated, altered  exit code 4

Text = ``[where] what was expected, what came, what to do``.
"""

from __future__ import annotations


class WorkloadError(ValueError):
    """A workload cannot be used as it stands."""


class UnknownWorkloadError(WorkloadError):
    """No workload has that name."""


class TaskFileError(WorkloadError):
    """A task.toml is missing, is not TOML, or does not fit the schema."""


class WorkloadAssetError(WorkloadError):
    """Weights or data are missing, truncated, altered, or cannot be generated."""
