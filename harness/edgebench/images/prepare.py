"""Preparing a workload of images: what was searched, changed or quantized, and its ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgebench.images.changed import ChangedNetwork, ImageSource, changed_once
from edgebench.images.graph import graph_sha256, read_genome
from edgebench.images.prepared import PreparedImages, linears_of, open_linears
from edgebench.images.request import image_chain, image_search, image_steps
from edgebench.ledger import identity_of, ledger_of
from edgebench.open_network import describe_network
from edgebench.open_subnet import describe_subnet
from edgebench.progress import Progress
from edgebench.record import OpenNetwork, OpenSubnet
from edgebench.transform import TransformChain, TransformSpec, apply_transform
from edgebench.transform.nas_found import FoundSubnet
from edgebench.transform.quantized import QuantizedModel
from edgebench_workloads.catalog import Workload
from edgebench_workloads.wake.genome import Genome
from edgebench_workloads.wake.scenes import scenes


def prepare_images(
    workload: Workload,
    directory: Path,
    transform: TransformChain | None,
    progress: Progress,
    quantized: QuantizedModel | None,
) -> PreparedImages:
    """Verify, change and quantize a workload of images; directory is the verified reference's."""
    rounding = None if transform is None or transform.rounding is None else transform.rounding
    chain = None if rounding is None else image_chain(rounding)  # refused before any work
    steps = () if transform is None else image_steps(transform)
    found = None if transform is None else _searched(workload, directory, transform, progress)
    scored, genome = workload.scored_scenes(), read_genome(directory)
    changed = _changed_network(workload, directory, steps, progress)
    linears = open_linears(workload, directory)
    made = found or changed
    if made is not None:
        linears = linears_of(made.directory, made.sha256)
    if transform is None or quantized is None:
        quantized = QuantizedModel(tensors={}, steps=())
        if chain is not None:
            with progress.stage(f"{workload.name}: {rounding}") as update:
                quantized = apply_transform(chain, linears, update)
        if made is not None:
            quantized = replace(quantized, steps=(*made.steps, *quantized.steps))
    own = genome if made is None else read_genome(made.directory)
    return PreparedImages(
        workload=workload,
        directory=directory,
        genome=genome,
        scenes=scored,
        found=found,
        changed=changed,
        quantized=quantized,
        identity=identity_of(workload),
        ledger=ledger_of(
            workload,
            graph_sha256(own),
            quantized,
            open_subnet=None if found is None else _open_subnet(workload, found, quantized),
            open_network=None if changed is None else _open_network(genome, changed, quantized),
        ),
    )


def _changed_network(
    workload: Workload, directory: Path, steps: Sequence[TransformSpec], progress: Progress
) -> ChangedNetwork | None:
    """The open track's network; the calibration set's hash goes into the record in any case."""
    calibration = workload.calibration_scenes()
    if not steps:
        return None
    source = ImageSource(
        directory=directory,
        sha256=workload.reference_sha256,
        calibration=calibration,
        calibration_sha256=workload.task.data.calibration_sha256,
        training=lambda size, start: list(scenes("training", size, start)),
    )
    with progress.stage(f"{workload.name}: {'+'.join(map(str, steps))}") as update:
        return changed_once(steps, source, update)


def _open_network(
    reference: Genome, changed: ChangedNetwork, quantized: QuantizedModel
) -> OpenNetwork:
    return describe_network(
        changed.genome,
        quantized.rounded,
        changed.arrays(),
        training=changed.made.training,
        coded_for=reference if changed.is_shared else None,
    )


def _searched(
    workload: Workload, directory: Path, transform: TransformChain, progress: Progress
) -> FoundSubnet | None:
    if image_search(transform) is None:
        return None
    from edgebench.images.searched import searched, summary

    with progress.stage(f"{workload.name}: {transform.steps[0]}") as update:
        found = searched(workload, directory, transform, update)
    if found is not None:
        progress.note(summary(found))
    return found


def _open_subnet(workload: Workload, found: FoundSubnet, quantized: QuantizedModel) -> OpenSubnet:
    return describe_subnet(
        read_genome(found.directory),
        quantized.rounded,
        found.arrays(),
        supernet_sha256=str(workload.task.model.supernet_sha256),
        search=found.found.search,
    )
