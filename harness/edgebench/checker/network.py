"""A changed network of images: filed whole, counted again, as its steps say, and its coded file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgebench import layout
from edgebench.checker.derivation import equal
from edgebench.checker.open_track import MAX_FINDINGS, kept_arrays, pattern_findings
from edgebench.checker.subject import Subject
from edgebench.checker.subnet import (
    Faults,
    quantized_products,
    rounded_faults,
    rounded_layers,
    shape_faults,
)
from edgebench.codec import read_capped
from edgebench.coded import decode
from edgebench.errors import BundleError, SpecError
from edgebench.findings import Finding, finding
from edgebench.images.graph import graph_sha256
from edgebench.images.request import cut_genome, is_pruned
from edgebench.open_model import Fp16
from edgebench.open_network import describe_network
from edgebench.open_subnet import genome_of
from edgebench.record import OpenNetwork
from edgebench.transform import CHANGES as CHANGE_STEPS
from edgebench.transform import nas
from edgebench.transform.pruning import PruneRequest, read_prune
from edgebench.transform.quantized import array_sha256
from edgebench.transform.sharing import NAME as SHARE
from edgebench.transform.sharing import read_share
from edgebench_workloads.wake.genome import Genome, Layer, layers

CHANGES = frozenset(CHANGE_STEPS) - {nas.NAME}  # a searched subnet is an open_subnet: O-07


def check_filed(subject: Subject) -> Iterator[Finding]:
    """O-01: the whole network is filed in fp16, INT4 tensors are rtn's of it, bit for bit."""
    ledger = subject.bundle.ledger
    changes = [step for step in ledger.steps if step.transform in CHANGES]
    of_images = subject.workload.kind == "images"
    if (ledger.open_network is not None) != (bool(changes) and of_images):
        text = "an open_network in the ledger exactly where a step changed a model of images"
        yield finding("O-01", text, "one" if ledger.open_network else "none")
    if ledger.open_network is None:
        return
    for expected, came in list(_filed_faults(subject, ledger.open_network))[:MAX_FINDINGS]:
        yield finding("O-01", expected, came)


def _filed_faults(subject: Subject, model: OpenNetwork) -> Faults:
    try:
        genome, kept = genome_of(model.genome), kept_arrays(subject)
        quantized = quantized_products(subject, genome)
    except (BundleError, ValueError) as err:
        yield "a genome and tensors that can be read", err
        return
    if faults := list(shape_faults(genome, kept)):
        yield from faults
        return
    if broken := [name for name, array in kept.items() if not np.isfinite(array).all()]:
        yield f"finite values in {broken[0]}", "others"
        return
    if {name: array_sha256(array) for name, array in kept.items()} != model.kept:
        yield "the ledger's hash of every tensor", "others"
    graph = graph_sha256(genome)
    if subject.bundle.ledger.graph_sha256 != graph:
        yield f"the graph {graph} of the genome", subject.bundle.ledger.graph_sha256
    yield from rounded_faults(subject, genome, kept, quantized)


def _whole(subject: Subject) -> tuple[OpenNetwork, Genome, dict[str, Fp16]] | None:
    """The network, where O-01 has nothing to say of it; None where nothing can be derived."""
    model = subject.bundle.ledger.open_network
    if model is None or any(True for _ in _filed_faults(subject, model)):
        return None
    return model, genome_of(model.genome), kept_arrays(subject)


def check_facts(subject: Subject) -> Iterator[Finding]:
    """O-02: every number of the ledger, derived from the tensors again."""
    whole, reference = _whole(subject), subject.workload.genome
    if whole is None or reference is None:
        return
    model, genome, kept = whole
    derived = describe_network(
        genome,
        rounded_layers(subject, genome, kept),
        kept,
        training=model.training,
        coded_for=None if model.coded is None else reference,
    )
    yield from _differing(derived.model_dump(), model.model_dump())


def _differing(derived: Mapping[str, object], told: Mapping[str, object]) -> Iterator[Finding]:
    for name, came in told.items():
        own = derived[name]
        if isinstance(own, Mapping) and isinstance(came, Mapping) and own.keys() == came.keys():
            yield from _differing(own, came)
        elif not (equal(came, own) if isinstance(own, float) else came == own):
            yield finding("O-02", f"{name} = {own}", came)


def check_steps(subject: Subject) -> Iterator[Finding]:
    """O-03: what each step says is in the network."""
    whole, genome = _whole(subject), subject.workload.genome
    if whole is None or genome is None:
        return
    model, own, kept = whole
    masked: PruneRequest | None = None
    values: int | None = None
    try:
        for step in subject.bundle.ledger.steps:
            if step.transform == SHARE:
                values = (1 << read_share(step.parameters).bits) + 1
            if step.transform != "prune":
                continue
            request = read_prune(step.parameters)
            expected = subject.workload.calibration_sha256 if request.needs_data else None
            if step.calibration_sha256 != expected:
                text = f"{request.method} with calibration {expected}"
                yield finding("O-03", text, step.calibration_sha256)
            masked = request if request.pattern is not None else masked
            genome = genome if request.pattern is not None else cut_genome(genome, request.share)
    except (SpecError, TypeError, ValueError) as err:
        yield finding("O-03", "steps that can be followed", err)
        return
    if genome != own:
        yield finding("O-03", f"a network of {genome}, what its steps leave", own)
    if masked is not None:
        yield from _zeros(masked, layers(own), model)
    yield from _shared(values, kept)


def _zeros(request: PruneRequest, every: Sequence[Layer], model: OpenNetwork) -> Iterator[Finding]:
    pattern = request.pattern
    if pattern is None:
        return
    facts = {
        one.name: model.tensors[f"{one.name}.weight"] for one in every if is_pruned(one, pattern)
    }
    told = "every product but the classifier", "what is pruned"
    yield from pattern_findings(request, facts, *told)


def _shared(values: int | None, kept: Mapping[str, Fp16]) -> Iterator[Finding]:
    """At most 2^bits values beside zero in each weight."""
    if values is None:
        return
    for name, array in kept.items():
        # NumPy 2.4 sorts many equal fp16 wrongly on CPUs with AVX-512 ICL, not SPR.
        came = len(np.unique(np.append(array.astype(np.float32), np.float32(0))))
        if array.ndim > 1 and came > values:
            yield finding("O-03", f"at most {values - 1} values beside zero in {name}", came - 1)
            return


def check_coded(subject: Subject) -> Iterator[Finding]:
    """O-08: the coded file decodes to the network that ran, bit for bit."""
    bundle = subject.bundle
    model, path = bundle.ledger.open_network, bundle.coded_path
    is_shared = model is not None and any(step.transform == SHARE for step in bundle.ledger.steps)
    has_both = path is not None and model is not None and model.coded is not None
    has_none = path is None and (model is None or model.coded is None)
    if not (has_both if is_shared else has_none):
        text = "coded.bin and its part of the ledger exactly where share was a step"
        yield finding("O-08", text, "others")
        return
    if path is None or model is None or (whole := _whole(subject)) is None:
        return
    try:
        genome, arrays = decode(read_capped(path, layout.SIZE_LIMITS[layout.CODED]))
    except BundleError as err:
        yield finding("O-08", "a coded file that can be read", err)
        return
    if genome != whole[1] or {k: array_sha256(a) for k, a in arrays.items()} != model.kept:
        yield finding("O-08", "a coded file of the network that ran, bit for bit", "another")
