"""Provenance: the task, the reference and the data are ours, and the track allows what was done."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from edgebench.checker.subject import Subject
from edgebench.errors import SpecError
from edgebench.findings import Finding, finding
from edgebench.profiles import CLOSED_BITS, CLOSED_TRANSFORMS
from edgebench.record import KernelResult, TransformStep
from edgebench.transform import TRANSFORMS, WITHOUT_DATA, parse_transform
from edgebench.transform.quantized import lines_sha256

HASHES = ("task_sha256", "reference_sha256", "scored_sha256", "calibration_sha256")
NEEDS_DATA = {n for n, role in TRANSFORMS.items() if role != "change"} - WITHOUT_DATA
"""What changes the model is O-03's: some prune without data, finetune takes the training set."""


def check_identity(subject: Subject) -> Iterator[Finding]:
    """W-01: every hash is this installation's; W-03: so is the graph in the closed track."""
    record, ledger = subject.bundle.record, subject.bundle.ledger
    if record.workload.kind != subject.workload.kind:
        yield finding("W-01", f"a workload of {subject.workload.kind}", record.workload.kind)
    for name in HASHES:
        came, expected = getattr(record.workload, name), getattr(subject.workload, name)
        if came != expected:
            yield finding("W-01", f"{name} {expected}", came)
    if ledger.reference_sha256 != subject.workload.reference_sha256:
        expected = subject.workload.reference_sha256
        yield finding("W-01", f"a ledger that starts at {expected}", ledger.reference_sha256)
    if ledger.graph_sha256 != subject.workload.graph_sha256:
        yield finding("W-03", f"graph {subject.workload.graph_sha256}", ledger.graph_sha256)


def check_calibration(subject: Subject) -> Iterator[Finding]:
    """W-02: no calibration input is scored; whatever used data used the calibration set."""
    if overlap := subject.workload.calibration_overlap:
        yield finding("W-02", "no calibration input in the scored set", f"{overlap}")
    for step in subject.bundle.ledger.steps:
        used = step.calibration_sha256
        may_be_none = step.transform not in NEEDS_DATA
        if used != subject.workload.calibration_sha256 and not (used is None and may_be_none):
            expected = f"{step.transform} to use {subject.workload.calibration_sha256}"
            yield finding("W-02", expected, used)


def check_track(subject: Subject) -> Iterator[Finding]:
    """W-07, W-08: the track allows the transform and the workload."""
    record, steps = subject.bundle.record, subject.bundle.ledger.steps
    if record.track == "open" and subject.workload.closed_only:
        yield finding("W-08", "a workload of the open track", record.workload.name)
    for result in record.results:
        if result.kernel == "fp16" and result.transform != "none":
            yield finding("W-07", "transform 'none' for fp16", result.transform)
        if result.kernel in ("int4", "open"):
            fault = _declared_fault(result, steps)
            if fault:
                yield finding("W-07", "the ledger's steps in the result's transform", fault)
    if record.track == "closed":
        for step in steps:
            if step.transform not in CLOSED_TRANSFORMS:
                allowed = ", ".join(sorted(CLOSED_TRANSFORMS))
                yield finding(
                    "W-07", f"a transform of the closed track ({allowed})", step.transform
                )
            elif (bits := step.parameters.get("bits")) != CLOSED_BITS:
                yield finding("W-07", f"{step.transform} with bits = {CLOSED_BITS}", bits)


def _declared_fault(result: KernelResult, steps: list[TransformStep]) -> str | None:
    """Say how the declared transform and the ledger differ; None when they agree."""
    try:
        declared = parse_transform(result.transform)
    except SpecError as err:
        return str(err)
    if (declared.rounding is None) != (result.kernel == "open"):
        return f"{result.transform} declared for {result.kernel}"
    if (did := tuple(step.transform for step in steps)) != declared.names:
        return f"{'+'.join(declared.names)} declared, {list(did)} in the ledger"
    differing = {
        name: step.parameters.get(name)
        for said, step in zip(declared.steps, steps, strict=True)
        for name, value in said.parameters.items()
        if step.parameters.get(name) != value
    }
    return f"{result.transform} declared, {differing} in the ledger" if differing else None


def check_chain(subject: Subject) -> Iterator[Finding]:
    """W-06: the ledger's hashes lead from the reference to the submitted tensors."""
    ledger = subject.bundle.ledger
    if not ledger.steps:
        yield finding("W-06", "at least one step in the ledger", "none")
        return
    if ledger.steps[0].before_sha256 != ledger.reference_sha256:
        came = ledger.steps[0].before_sha256
        yield finding("W-06", f"the first step to start at {ledger.reference_sha256}", came)
    for before, after in pairwise(ledger.steps):
        if before.after_sha256 != after.before_sha256:
            text = f"{after.transform} to start at {before.after_sha256}"
            yield finding("W-06", text, after.before_sha256)
    filed = ledger.tensors | ledger.folded | ledger.convolutions
    if ledger.open_model is not None and not ledger.tensors:
        filed = ledger.open_model.kept  # the model stays fp16
    of_images = ledger.open_subnet or ledger.open_network
    if of_images is not None and not ledger.tensors:
        filed = of_images.kept
    expected = lines_sha256(filed)
    if ledger.steps[-1].after_sha256 != expected:
        text = f"the last step to end at {expected}, the hash of its tensors"
        yield finding("W-06", text, ledger.steps[-1].after_sha256)
    has_file = subject.bundle.tensors_path is not None
    if (ledger.tensors_file is not None) != has_file:
        came = "a file" if has_file else "no file"
        yield finding("W-06", f"tensors_file {ledger.tensors_file!r} in the bundle", came)
