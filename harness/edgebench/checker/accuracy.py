"""Accuracy: enough was scored, the answers kept their quality, and both modes gave the same."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

from edgebench.checker.subject import Subject
from edgebench.derive import REFERENCE, length_ratio, score, scored_outputs
from edgebench.findings import Finding, finding
from edgebench.profiles import (
    EXTERNAL,
    LENGTH_CORRIDOR,
    OUTPUT_MISMATCH_LIMIT,
    PINNED_SIGMAS,
    PINNED_SLACK,
    RELATIVE_TOLERANCE,
    accuracy_targets,
)
from edgebench.record import Kernel


def check_gate(subject: Subject) -> Iterator[Finding]:
    """Q-02, Q-04: closed results keep the reference's accuracy and length."""
    targets = accuracy_targets(subject.bundle.record.track)
    if targets is None or REFERENCE not in subject.kernels:
        return
    is_right = subject.workload.answers.is_right
    reference = score(subject.bundle.samples, REFERENCE, is_right)
    for kernel in subject.kernels:
        own = score(subject.bundle.samples, kernel, is_right)
        if not own.accuracy or not reference.accuracy:
            yield finding("Q-02", f"right answers of {kernel} and {REFERENCE}", "none")
        elif own.accuracy / reference.accuracy < targets[0] - RELATIVE_TOLERANCE:
            text = f"{kernel} accuracy >= {targets[0]:.0%} of {reference.accuracy:.4f}"
            yield finding("Q-02", text, f"{own.accuracy:.4f}")
        ratio = length_ratio(own, reference)
        low, high = LENGTH_CORRIDOR
        if ratio is None or not low <= ratio <= high:
            text = f"{kernel} output tokens within {low:.0%} to {high:.0%} of {REFERENCE}'s"
            yield finding("Q-04", text, "none" if ratio is None else f"{ratio:.1%}")


def check_reference(subject: Subject) -> Iterator[Finding]:
    """Q-03: the fp16 reference of this run is not weaker than the pinned one."""
    pinned = subject.workload.pinned_accuracy
    if pinned is None or REFERENCE not in subject.kernels:
        return
    own = score(subject.bundle.samples, REFERENCE, subject.workload.answers.is_right)
    count = len(own.outputs)
    slack = PINNED_SLACK
    if 0 < count < subject.workload.scored_count:
        slack += PINNED_SIGMAS * math.sqrt(pinned * (1 - pinned) / count)
    if own.accuracy is None or own.accuracy < pinned - slack:
        text = f"{REFERENCE} accuracy >= {pinned - slack:.4f}"
        yield finding("Q-03", text, own.accuracy)


def check_coverage(subject: Subject) -> Iterator[Finding]:
    """Q-07: the whole scored set is scored where the profile says so, the same for all kernels."""
    scored = {kernel: scored_outputs(subject.bundle.samples, kernel) for kernel in subject.kernels}
    if subject.counts.scored_on == "scored-set":
        for kernel, outputs in scored.items():
            missing = subject.workload.scored_count - len(outputs)
            if missing:
                text = f"{subject.workload.scored_count} scored samples of {kernel}"
                yield finding("Q-07", text, f"{missing} missing")
    sets = {frozenset(outputs) for outputs in scored.values()}
    if len(sets) > 1:
        yield finding("Q-07", "the same scored samples for all kernels", "different ones")


def check_same_outputs(subject: Subject) -> Iterator[Finding]:
    """Q-05: one kernel gives one sample one output, whatever the mode and the round."""
    for kernel in subject.kernels:
        reference = scored_outputs(subject.bundle.samples, kernel)
        compared = differing = 0
        example = ""
        for row in subject.bundle.samples:
            if row.kernel == kernel and row.sample in reference:
                compared += 1
                if tuple(row.output_ids) != reference[row.sample]:
                    differing += 1
                    example = example or f"sample {row.sample} in {row.mode} query {row.query}"
        if differing > OUTPUT_MISMATCH_LIMIT * compared:
            text = f"{kernel} to answer a sample alike in all but {OUTPUT_MISMATCH_LIMIT:.0%}"
            yield finding("Q-05", text, f"{differing} of {compared} differ, such as {example}")


def check_outputs(subject: Subject) -> Iterator[Finding]:
    """Q-08: outputs are whole: one end-of-sequence at the end, or the full length.

    An external engine's text is encoded again, to fewer tokens where it spelled a word in pieces.
    """
    workload = subject.workload
    shortest = dict.fromkeys(get_args(Kernel), workload.max_new_tokens) | {EXTERNAL: 0}
    for row in subject.bundle.samples:
        ids = row.output_ids
        fault = None
        if not ids:
            fault = "no token"
        elif max(ids) >= workload.vocabulary:
            fault = f"token id {max(ids)} of {workload.vocabulary}"
        elif len(ids) > workload.max_new_tokens:
            fault = f"{len(ids)} tokens of at most {workload.max_new_tokens}"
        elif workload.eos_id in ids[:-1]:
            fault = "tokens after end-of-sequence"
        elif ids[-1] != workload.eos_id and len(ids) < shortest[row.kernel]:
            fault = f"no end-of-sequence after {len(ids)} tokens"
        if fault:
            where = f"{row.kernel} {row.mode} query {row.query} sample {row.sample}"
            yield finding("Q-08", f"a whole output in {where}", fault)
            return


def check_nll(subject: Subject) -> Iterator[Finding]:
    """Q-06: likelihood rows are unique, cover enough, and count the task's tokens."""
    workload = subject.workload
    measured = [kernel for kernel in subject.kernels if kernel != EXTERNAL]
    covered: dict[Kernel, set[int]] = {kernel: set() for kernel in measured}
    if any(row.kernel == EXTERNAL for row in subject.bundle.nll):
        yield finding("Q-06", f"no likelihood of {EXTERNAL}, which shows text alone", "some")
        return
    for row in subject.bundle.nll:
        where = f"{row.kernel} sample {row.sample}"
        own = covered.setdefault(row.kernel, set())
        if row.sample >= workload.scored_count or row.sample in own:
            yield finding("Q-06", "every scored sample at most once in nll.jsonl", where)
            return
        own.add(row.sample)
        expected = workload.call_tokens[row.sample]
        if row.tokens != expected:
            yield finding("Q-06", f"{expected} call tokens of {where}", row.tokens)
            return
    needed = subject.counts.nll_samples or workload.scored_count
    for kernel, samples in covered.items():
        if len(samples) < min(needed, workload.scored_count):
            yield finding("Q-06", f"the likelihood of {needed} calls of {kernel}", len(samples))
    if len({frozenset(samples) for samples in covered.values()}) > 1:
        yield finding("Q-06", "the same calls for all kernels", "different ones")
