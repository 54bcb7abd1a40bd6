"""What a transform folded beside the INT4 tensors: the ledger names every array of the file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from safetensors import SafetensorError, safe_open

from edgebench.checker.subject import Subject
from edgebench.findings import Finding, finding
from edgebench.transform import TRANSFORMS
from edgebench.transform.quantized import array_sha256


def check_folded(subject: Subject) -> Iterator[Finding]:
    """W-06: folded.safetensors holds what the ledger names, and a step says who folded it."""
    listed, path = subject.bundle.ledger.folded, subject.bundle.folded_path
    steps = [step.transform for step in subject.bundle.ledger.steps]
    for step in subject.bundle.ledger.steps:
        if step.choices and TRANSFORMS.get(step.transform) != "smooth":
            came = f"{len(step.choices)} of {step.transform}"
            yield finding("W-06", "choices only from a step that searches scales", came)
    if listed and not any(TRANSFORMS.get(name) == "smooth" for name in steps):
        yield finding("W-06", "folded arrays only from a step that folds", steps)
    if path is None:
        if listed:
            yield finding("W-06", "folded.safetensors in the bundle", "no file")
        return
    try:
        with safe_open(path, framework="numpy") as file:
            names = frozenset(file.keys())
            if names != listed.keys():
                came = ", ".join(sorted(names ^ listed.keys())[:3])
                yield finding("W-06", "the ledger to name the folded arrays", f"differing: {came}")
            for name in sorted(names & listed.keys()):
                array = np.asarray(file.get_tensor(name))
                if (came := array_sha256(array)) != listed[name]:
                    yield finding("W-06", f"{name} with sha256 {listed[name]}", came)
    except (SafetensorError, OSError, TypeError) as err:
        yield finding("W-06", "a readable folded.safetensors", err)
