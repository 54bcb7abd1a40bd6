"""A searched subnet: cut from the shipped supernet again, counted again, foreseen again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgebench.checker.derivation import equal
from edgebench.checker.open_track import kept_arrays
from edgebench.checker.subject import Subject
from edgebench.checker.tensors import open_source
from edgebench.errors import BenchError, BundleError, SpecError
from edgebench.findings import Finding, finding
from edgebench.images.graph import graph_sha256
from edgebench.open_model import Fp16
from edgebench.open_subnet import describe_subnet, genome_of, shapes_of
from edgebench.profiles import SUBNET_TOLERANCE
from edgebench.progress import slow_stage
from edgebench.record import OpenSubnet, TransformStep
from edgebench.subnet_record import Search
from edgebench.transform import TRANSFORMS, TransformChain, TransformSpec, apply_transform
from edgebench.transform.nas import NAME, NasRequest, read_nas
from edgebench.transform.nas_table import predicted_ns
from edgebench.transform.quantized import BIAS, Rounded, array_sha256, int8_hashes
from edgebench_kernels.formats import Int4Tensor, tensor_sha256
from edgebench_kernels.int8_format import quantize_int8
from edgebench_workloads.wake.costs import (
    convolutions,
    peak_activations,
    products,
    total_macs,
)
from edgebench_workloads.wake.extract import extract
from edgebench_workloads.wake.genome import Genome

MAX_FINDINGS = 3

Faults = Iterator[tuple[str, object]]


def check_subnet(subject: Subject) -> Iterator[Finding]:
    """O-07: the subnet is the shipped supernet's, and its numbers follow from it."""
    ledger = subject.bundle.ledger
    steps = [step for step in ledger.steps if step.transform == NAME]
    model = ledger.open_subnet
    if (model is None) != (not steps) or len(steps) > 1:
        text = "an open_subnet in the ledger exactly where one nas step searched"
        yield finding("O-07", text, "none" if model is None else f"{len(steps)} such steps")
        return
    if model is None:
        return
    try:
        faults = list(_faults(subject, model, steps[0]))
    except (BundleError, ValueError) as err:
        faults = [("a subnet that can be read", err)]
    for expected, came in faults[:MAX_FINDINGS]:
        yield finding("O-07", expected, came)


def _faults(subject: Subject, model: OpenSubnet, step: TransformStep) -> Faults:
    supernet, pinned = subject.workload.supernet, subject.workload.supernet_sha256
    if supernet is None or model.supernet_sha256 != pinned:
        yield f"the supernet {pinned}", model.supernet_sha256
        return
    genome, kept = genome_of(model.genome), kept_arrays(subject)
    if genome.middles is not None:
        yield "a genome of the space", f"cut to {genome.middles} middle channels"
        return
    if faults := list(shape_faults(genome, kept)):
        yield from faults
        return
    graph = graph_sha256(genome)
    if subject.bundle.ledger.graph_sha256 != graph:
        yield f"the graph {graph} of the genome", subject.bundle.ledger.graph_sha256
    hashes = {name: array_sha256(array) for name, array in kept.items()}
    if hashes != model.kept:
        yield "the ledger's hash of every tensor", "others"
    quantized = quantized_products(subject, genome)
    told = [
        *rounded_faults(subject, genome, kept, quantized),
        *_numbers(model, genome, kept, rounded_layers(subject, genome, kept)),
        *_search(model, genome, step),
    ]
    yield from told or _extracted(subject, genome, kept)  # which takes seconds


def shape_faults(genome: Genome, kept: Mapping[str, Fp16]) -> Faults:
    """The filed tensors are the genome's, each of its shape and in fp16."""
    came, expected = {name: array.shape for name, array in kept.items()}, shapes_of(genome)
    if came != expected or any(one.dtype != np.float16 for one in kept.values()):
        differing = sorted(set(came.items()) ^ set(expected.items()))
        yield "the fp16 tensors of the genome", f"differing: {differing[:2]}"


def quantized_products(subject: Subject, genome: Genome) -> dict[str, Int4Tensor]:
    """The INT4 tensors; ValueError where there are others than the genome's products."""
    if not subject.bundle.ledger.tensors:
        return {}
    expected = {layer.name: (layer.outputs, layer.inputs) for layer in products(genome)}
    with open_source(subject) as source:
        found = {name: source.get(name) for name in sorted(source.names())}
    if {name: tensor.shape for name, tensor in found.items()} != expected:
        raise ValueError("[int4.safetensors] expected the genome's products, got others")
    return found


def rounded_layers(
    subject: Subject, genome: Genome, kept: Mapping[str, Fp16]
) -> dict[str, Rounded]:
    """Every layer that is rounded: INT4 tensors as filed, INT8 as they follow from the fp16 ones.

    Raises ValueError as quantized_products does.
    """
    found: dict[str, Rounded] = dict(quantized_products(subject, genome))
    if subject.bundle.ledger.convolutions:
        filed = _Filed(kept, genome)
        found |= {name: quantize_int8(filed.weight(name)) for name in filed.convolutions}
    return found


def _extracted(subject: Subject, genome: Genome, kept: Mapping[str, Fp16]) -> Faults:
    """Every tensor is what the supernet gives, rounded to fp16 after sums of another order."""
    assert subject.workload.supernet is not None
    with slow_stage(subject.progress, f"{subject.workload.name}: cutting the subnet") as update:
        again = extract(subject.workload.supernet, genome, update)
    for name, own in again.items():
        filed = kept[name].astype(np.float32)
        # Behind a norm a channel is about 1 wide, which is what a bias shifts, however small it is.
        largest = max(np.abs(own).max(), 1.0 if name.endswith(BIAS) else 0.0)
        slack = np.abs(own) / 2**11 + SUBNET_TOLERANCE * largest
        if not np.isfinite(filed).all() or (np.abs(filed - own) > slack).any():
            worst = float(np.nanmax(np.abs(filed - own)))
            yield f"{name} as the supernet gives it", f"up to {worst:.3g} beside it"


def rounded_faults(
    subject: Subject,
    genome: Genome,
    kept: Mapping[str, Fp16],
    quantized: Mapping[str, Int4Tensor],
) -> Faults:
    """INT4 and INT8 tensors are what the declared quantizer makes of the fp16 ones, bit by bit."""
    steps = [
        step for step in subject.bundle.ledger.steps if TRANSFORMS.get(step.transform) != "change"
    ]
    if not quantized:
        if steps:
            yield "no quantizer where the model stays fp16", steps[0].transform
        return
    if [step.transform for step in steps] != ["rtn"]:
        yield "rtn where the model is quantized", [step.transform for step in steps]
        return
    given = {k: v for k, v in steps[0].parameters.items() if k != "bits" and v is not None}
    chain = TransformChain(steps=(TransformSpec(name="rtn", parameters=given),))
    try:
        again = apply_transform(chain, _Filed(kept, genome))  # type: ignore[arg-type]
    except (BenchError, TypeError, ValueError) as err:
        yield "an rtn step that can be followed", err
        return
    for name, tensor in quantized.items():
        if tensor_sha256(again.tensors[name]) != tensor_sha256(tensor):
            yield f"{name} as rtn rounds it", "other codes or grids"
    if int8_hashes(again.convolutions) != subject.bundle.ledger.convolutions:
        yield "the ledger's INT8 weights as rtn rounds them", "others"


class _Filed:
    """See quantized.Linears: what rtn needs of it."""

    sha256 = "0" * 64  # no ledger sees it

    def __init__(self, kept: Mapping[str, Fp16], genome: Genome) -> None:
        self._kept = kept
        self.names = tuple(layer.name for layer in products(genome))
        self.convolutions = tuple(layer.name for layer in convolutions(genome))

    def weight(self, name: str) -> Fp16:
        stored = self._kept[f"{name}.weight"]
        return stored.reshape(len(stored), -1)


def _numbers(
    model: OpenSubnet, genome: Genome, kept: Mapping[str, Fp16], rounded: Mapping[str, Rounded]
) -> Faults:
    derived = describe_subnet(
        genome,
        rounded,
        kept,
        supernet_sha256=model.supernet_sha256,
        search=model.search,
    ).model_dump()
    for name, came in model.model_dump().items():
        if not equal(came, derived[name]) if isinstance(came, float) else came != derived[name]:
            yield f"{name} that follows from the tensors", "another"


def _search(model: OpenSubnet, genome: Genome, step: TransformStep) -> Faults:
    """The request is the step's, the winner keeps it, the prediction is the table's sum."""
    search = model.search
    try:
        request = read_nas({k: v for k, v in step.parameters.items() if v is not None})
    except (SpecError, TypeError, ValueError) as err:
        yield "a nas step that can be followed", err
        return
    asked = (request.constraint, request.limit, request.seed, request.generations, request.samples)
    done = (search.constraint, search.limit, search.seed, search.generations, search.evaluations)
    if asked != done:
        yield f"the search that the step asks for: {asked}", done
    try:
        foreseen = predicted_ns(search.table, genome)
    except KeyError as err:
        yield "a latency table of every choice", f"none of {err}"
        return
    if search.predicted_latency_ns != foreseen:
        yield f"a prediction of {foreseen} ns, the table's sum", search.predicted_latency_ns
    cost = _cost(request, genome, search.measured_latency_ns if search.tried else foreseen)
    if cost > search.limit:
        yield f"{request.constraint} of at most {search.limit}", cost
    yield from _tried(search, genome)
    if search.measured_latency_ns == 0:
        yield "a measured latency above 0", 0
    elif not equal(error := foreseen / search.measured_latency_ns - 1, search.latency_error):
        yield f"latency_error = {error:.6f}", search.latency_error


def _tried(search: Search, genome: Genome) -> Faults:
    """The winner is the best finalist that keeps the limit; bundles of before list none."""
    own = [one for one in search.tried if genome_of(one.genome) == genome]
    if not search.tried:
        return
    if not own or own[-1].measured_latency_ns != search.measured_latency_ns:
        yield "the winner among the finalists, with its latency", "another"
        return
    for one in search.tried:
        if one.predicted_latency_ns != predicted_ns(search.table, genome_of(one.genome)):
            yield "every finalist's prediction as the table's sum", one.predicted_latency_ns
            return


def _cost(request: NasRequest, genome: Genome, latency_ns: int) -> int:
    """What the constraint bounds."""
    if request.constraint == "latency":
        return latency_ns
    return peak_activations(genome) if request.constraint == "memory" else total_macs(genome)
