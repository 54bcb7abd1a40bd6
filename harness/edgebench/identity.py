"""Who a workload is: the table of names and hashes that a record states and the checker knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgebench_workloads.catalog import Workload


def identified(workload: Workload) -> dict[str, Any]:
    """Fields of record.WorkloadIdentity and of checker.KnownWorkload alike."""
    return {
        "name": workload.name,
        "kind": workload.kind,
        "task_sha256": workload.task_sha256,
        "reference_sha256": workload.reference_sha256,
        "scored_sha256": workload.task.data.scored_sha256,
        "calibration_sha256": workload.task.data.calibration_sha256,
    }
