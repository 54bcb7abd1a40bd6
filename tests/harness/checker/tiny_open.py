"""Bundles of the open track: what its steps make of the tiny Llama, filed as a run files it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from edgebench.checker.known import known_model
from edgebench.open_model import describe, kept_shapes, linear_shapes, not_closed, shape_of
from edgebench.record import Ledger
from edgebench.transform import apply_transform, parse_transform
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.changed import ChangedModel, Source, changed_once
from edgebench.transform.quantized import QuantizedModel, folded_hashes, open_reference
from edgebench.transform.students import named
from edgebench_kernels.formats import tensor_sha256
from edgebench_workloads.students import Student
from tests.harness.checker.conftest import Maker
from tests.harness.checker.tiny_llama import TinyWorld

WHOLE = "prune:units=0.333333333+prune:wanda=2:4"
"""Ends in fp16; 96 units become 64."""
QUANTIZED = f"{WHOLE}+rtn:group=32"
TRAINED = "prune:magnitude=0.5+finetune:steps=4,batch=2,rate=0.001+rtn:group=32"
OTHER_GRAPH = "5" * 64


def examples(size: int, start: int) -> list[tuple[list[int], int]]:
    """A training stream of random tokens."""
    made = []
    for index in range(start, start + size):
        draw = np.random.default_rng(index)
        made.append((draw.integers(0, 50, 6 + index % 3).tolist(), 3))
    return made


def source_of(world: TinyWorld) -> Source:
    return Source(
        directory=world.folder,
        sha256="a" * 64,
        calibration=CalibrationSet(sha256="3" * 64, sequences=world.sequences),
        examples=examples,
    )


def changed_model(world: TinyWorld, chain: str, student: Student | None = None) -> ChangedModel:
    source = replace(source_of(world), student=student)
    return changed_once(named(parse_transform(chain)).changes, source)


def quantized_model(world: TinyWorld, changed: ChangedModel, chain: str) -> QuantizedModel:
    rounding = parse_transform(chain).rounding
    if rounding is None:
        return QuantizedModel(tensors={}, steps=())
    reference = open_reference(changed.directory / "model.safetensors", changed.sha256)
    calibration = CalibrationSet(sha256="3" * 64, sequences=world.sequences)
    keeps_zeros = "prune" in parse_transform(chain).names
    return apply_transform(rounding, reference, calibration=calibration, keeps_zeros=keeps_zeros)


def submit_open(maker: Maker, world: TinyWorld, chain: str, student: Student | None = None) -> None:
    """Make the bundle the open track's, of what this chain makes; `student` is shipped."""
    changed = changed_model(world, chain, student)
    quantized = quantized_model(world, changed, chain)
    known = known_model(world.folder, world.sequences)
    shapes = {name: world.reference.weight(name).shape for name in world.reference.names}
    maker.workload = replace(
        maker.workload, closed_only=False, reference=world.reference, shapes=shapes, model=known
    )
    _measure(maker, shapes, "int4" if quantized.tensors else "open")
    arrays, shape = changed.arrays(), changed.shape()
    maker.kept = {n: arrays[n] for n in kept_shapes(shape, is_quantized=bool(quantized.tensors))}
    model = describe(shape, quantized.tensors.items(), maker.kept, changed.made.training)
    maker.tensors = dict(quantized.tensors)
    maker.with_tensors_file = bool(quantized.tensors)
    maker.folded = {name: np.asarray(array) for name, array in quantized.folded.arrays().items()}
    steps = [*changed.made.steps, *quantized.steps]
    maker.ledger |= {
        "folded": folded_hashes(quantized.folded),
        "steps": [step.model_dump() for step in steps],
        "tensors": {name: tensor_sha256(t) for name, t in quantized.tensors.items()},
        "tensors_file": "int4.safetensors" if quantized.tensors else None,
        "graph_sha256": OTHER_GRAPH,
        "open_model": model.model_dump(),
    }
    maker.record["track"] = "open"
    maker.transform = str(named(parse_transform(chain)))
    maker.candidate_shapes = linear_shapes(shape)
    maker.derive()
    retell(maker)


def retell(maker: Maker) -> None:
    """Let the record list what the ledger gives."""
    assert maker.workload.model is not None
    ledger = Ledger.model_validate(maker.ledger)
    maker.record["not_closed"] = not_closed(ledger, shape_of(maker.workload.model.config))


def _measure(maker: Maker, shapes: dict[str, Any], candidate: str) -> None:
    weights = sum(n * k for n, k in shapes.values())
    for row in maker.ceilings:  # a machine that reads the larger model as fast as the smaller one
        row["value"] *= 2 * weights / maker.weights
    maker.weights, maker.candidate = weights, candidate
    for row in (*maker.samples, *maker.nll):
        if row["kernel"] != "fp16":
            row["kernel"] = candidate
