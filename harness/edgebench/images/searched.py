"""The subnet that a `nas` step finds for a workload of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgebench.errors import SpecError
from edgebench.images.prepared import SUPERNET
from edgebench.images.request import image_chain, image_search
from edgebench.transform import TransformChain
from edgebench.transform.nas_found import FoundSubnet, Ground, found_once, machine_name
from edgebench_workloads.catalog import Workload


def searched(
    workload: Workload,
    directory: Path,
    transform: TransformChain,
    progress: Callable[[int, int], None],
) -> FoundSubnet | None:
    """Search where the chain says so, in the engine that will run what it finds.

    directory is the reference's, every file verified. Raises SpecError as found_once does.
    """
    request = image_search(transform)
    if request is None:
        return None
    rounding = None if transform.rounding is None else image_chain(transform.rounding)
    supernet_sha256 = workload.task.model.supernet_sha256
    if supernet_sha256 is None:
        raise SpecError(f"[nas] expected a workload with a supernet, got {workload.name}")
    from edgebench.images.choices import choices_after
    from edgebench.transform.nas_accuracy import Evaluator

    ground = Ground(
        reference_sha256=workload.reference_sha256,
        supernet_sha256=supernet_sha256,
        evaluator=Evaluator(directory / SUPERNET),
        choices=choices_after(rounding),
        engine=str(rounding),
        machine=machine_name(),
    )
    return found_once(request, ground, progress)


def summary(found: FoundSubnet) -> str:
    """What came of a search, in a line for people."""
    search = found.found.search
    return (
        f"nas: {search.constraint} <= {search.limit}: top-1 {search.evaluated_top1:.1%} on "
        f"{search.split}; {search.measured_latency_ns / 1e6:.3f} ms an image, predicted "
        f"{search.predicted_latency_ns / 1e6:.3f} ms ({search.latency_error:+.1%})"
    )
