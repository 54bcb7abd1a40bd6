"""`bench export mlperf`: its words."""

from __future__ import annotations

from pathlib import Path

from edgebench.mlperf import export_mlperf
from edgebench.mlperf.kernel_run import NOTICE


def export_mlperf_command(bundle: Path, out: Path, tensors: Path | None = None) -> str:
    """Export, and say where each run lies."""
    folders = export_mlperf(bundle, out, tensors=tensors)
    return "\n".join([*(f"run: {folder}" for folder in folders), NOTICE])
