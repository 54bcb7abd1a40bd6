"""The open track's students: the one that a step names is the one that was filed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgebench.checker.open_track import kept_arrays
from edgebench.checker.subject import KnownStudent, Subject
from edgebench.checker.weights import check_weights
from edgebench.errors import BundleError
from edgebench.findings import Finding, finding
from edgebench.profiles import CLOSED_TRANSFORMS
from edgebench.record import TransformStep
from edgebench.transform.distill import SHIPPED, named_by
from edgebench.transform.quantized import array_sha256

TOLD_ELSEWHERE = frozenset({"W-05", "W-06"})
"""Sane tensors and their hashes are looked at in every track."""


def check_student(subject: Subject) -> Iterator[Finding]:
    """O-06: who the student is, and that the bundle holds it."""
    ledger = subject.bundle.ledger
    for place, step in enumerate(ledger.steps):
        if step.transform != "distill":
            continue
        if place:
            yield finding("O-06", "distill as the first step", f"step {place + 1}")
            continue
        name = step.parameters.get("student")
        if name != SHIPPED:
            if name != named_by(step.after_sha256):
                yield finding("O-06", f"the student {named_by(step.after_sha256)}", name)
            continue
        student = subject.workload.student
        if student is None:
            yield finding("O-06", "a workload that ships a student", subject.workload.name)
            continue
        yield from _shipped(subject, step, student)


def _shipped(subject: Subject, step: TransformStep, student: KnownStudent) -> Iterator[Finding]:
    """The installation's own student: its hash, its training, and what followed from it."""
    ledger = subject.bundle.ledger
    if step.after_sha256 != student.tensors_sha256:
        yield finding("O-06", f"the shipped student {student.tensors_sha256}", step.after_sha256)
        return
    model = ledger.open_model
    if model is None:
        return  # O-01
    if not model.training or model.training[0] != student.training:
        came = model.training[0] if model.training else "none"
        yield finding("O-06", f"its training, {student.training}", came)
    if {other.transform for other in ledger.steps[1:]} <= CLOSED_TRANSFORMS:
        yield from _kept(subject, student)
        yield from _rounded(subject, student)


def _kept(subject: Subject, student: KnownStudent) -> Iterator[Finding]:
    """Every fp16 tensor that is filed is the student's."""
    try:
        kept = kept_arrays(subject)
    except BundleError:
        return  # O-01
    for name in sorted(kept.keys() & student.model.names):
        expected = array_sha256(student.model.tensor(name))
        if (came := array_sha256(kept[name])) != expected:
            yield finding("O-06", f"the student's {name}, {expected}", came)
            return


def _rounded(subject: Subject, student: KnownStudent) -> Iterator[Finding]:
    """Every INT4 weight is what the closed track's rules make of the student's."""
    bundle, workload = subject.bundle, subject.workload
    if not bundle.ledger.tensors:
        return
    ledger = bundle.ledger.model_copy(update={"steps": bundle.ledger.steps[1:], "open_model": None})
    closed = replace(
        subject,
        bundle=replace(
            bundle, record=bundle.record.model_copy(update={"track": "closed"}), ledger=ledger
        ),
        workload=replace(
            workload, reference=student.reference, shapes=student.shapes, model=student.model
        ),
    )
    for found in check_weights(closed):
        if found.rule_id not in TOLD_ELSEWHERE:
            yield finding("O-06", f"of the student, {found.expected}", found.came)
