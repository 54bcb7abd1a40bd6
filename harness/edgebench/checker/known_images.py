"""What this installation knows of a workload of images, every hash verified."""

from __future__ import annotations

from pathlib import Path

from edgebench.answers import ClassKey
from edgebench.checker.subject import KnownWorkload
from edgebench.identity import identified
from edgebench.images.graph import graph_sha256, read_genome
from edgebench.images.prepared import SUPERNET, open_linears
from edgebench_workloads.catalog import Workload
from edgebench_workloads.wake.costs import products
from edgebench_workloads.wake.genome import CLASSES


def known_images(workload: Workload, directory: Path) -> KnownWorkload:
    """What the catalog says of it; the directory is the reference's. Raises WorkloadError."""
    scored, calibration = workload.scored_scenes(), workload.calibration_scenes()
    genome = read_genome(directory)
    seen = {scene.image.tobytes() for scene in scored}
    return KnownWorkload(
        **identified(workload),
        closed_only=workload.closed_only,
        graph_sha256=graph_sha256(genome),
        prompt_tokens=[1] * len(scored),
        call_tokens=[1] * len(scored),
        calibration_overlap=sum(scene.image.tobytes() in seen for scene in calibration),
        answers=ClassKey([int(scene.is_wake) for scene in scored]),
        eos_id=None,
        vocabulary=CLASSES,
        max_new_tokens=workload.task.max_new_tokens,
        reference=open_linears(workload, directory),
        shapes={layer.name: (layer.outputs, layer.inputs) for layer in products(genome)},
        genome=genome,
        supernet=directory / SUPERNET,
        supernet_sha256=workload.task.model.supernet_sha256,
    )
