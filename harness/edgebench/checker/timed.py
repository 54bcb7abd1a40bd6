"""What was timed is what was filed, and what describes it is small beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from safetensors import SafetensorError, safe_open

from edgebench.checker.subject import Subject
from edgebench.findings import Finding, finding
from edgebench.profiles import DESCRIPTION_FLOOR_BYTES, MAX_DESCRIPTION_SHARE
from edgebench.record import KernelResult

SCALE_BYTES = 2  # a scale is held to 1e-3 (W-09), which 16 bits hold; a norm is fp16 itself
CODE_BYTES = 0.5
EMBEDDED_BYTES = 4  # at most, of one element of the embedding's row


def check_timed(subject: Subject) -> Iterator[Finding]:
    """W-14: the engine held the ledger's tensors while it was timed; W-16 warns of no hashes."""
    for result in subject.bundle.record.results:
        weights = result.timed_weights
        if weights is None:
            if result.kernel == "int4":
                yield finding("W-16", "hashes of the INT4 weights that were timed", "none")
            continue
        steps = subject.bundle.ledger.steps
        expected = steps[-1].after_sha256 if steps else None
        if result.kernel != "int4" or weights.model_sha256 != expected:
            text = f"int4 to time the ledger's model {expected}"
            yield finding("W-14", text, f"{result.kernel}: {weights.model_sha256}")
        if weights.after_sha256 != weights.before_sha256:
            text = f"packed weights {weights.before_sha256} after the last block"
            yield finding("W-14", text, weights.after_sha256)
        if not _is_what_it_reads(subject, result, weights.packed_bytes):
            text = f"weight_bytes of {weights.packed_bytes} packed ones and an embedding's rows"
            yield finding("W-14", text, result.weight_bytes)


def _is_what_it_reads(subject: Subject, result: KernelResult, packed_bytes: int) -> bool:
    """Whether the bytes of a step are the packed ones, and at most a row of embedding a sample."""
    widest = max(k for _, k in subject.workload.shapes.values())
    most = packed_bytes + EMBEDDED_BYTES * result.batch_size * widest
    return result.weight_bytes is not None and packed_bytes <= result.weight_bytes <= most


def check_description(subject: Subject) -> Iterator[Finding]:
    """W-13: parameters, choices and scales are far smaller than the codes they stand beside."""
    bundle = subject.bundle
    recipe = [[step.transform, step.parameters, step.choices] for step in bundle.ledger.steps]
    size = len(json.dumps(recipe)) + SCALE_BYTES * _scale_count(subject)
    codes = CODE_BYTES * sum(n * k for n, k in subject.workload.shapes.values())
    limit = max(DESCRIPTION_FLOOR_BYTES, MAX_DESCRIPTION_SHARE * codes)
    if size > limit:
        yield finding("W-13", f"a description of at most {limit:.0f} bytes", size)


def _scale_count(subject: Subject) -> int:
    """Folded scales; a norm's are the ratio of two norms and count once, with the norm."""
    path = subject.bundle.folded_path
    if path is None:
        return 0
    try:
        with safe_open(path, framework="numpy") as file:
            names = frozenset(file.keys())
            counted = [
                name for name in names
                if not (name.endswith(".scale") and f"{name[:-6]}.weight" in names)
            ]  # fmt: skip
            return sum(_size(file.get_slice(name).get_shape()) for name in counted)
    except (SafetensorError, OSError):
        return 0


def _size(shape: list[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count
