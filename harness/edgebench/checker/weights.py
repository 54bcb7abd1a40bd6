"""Weights: the nearest-code test of every weight, on the submission's own grids.

For a reference weight w, code q, zero point z and scale s the target is t = w / s + z, and
|q - t| <= 1/2 means that q is the nearest code. To 1/2 come NEAREST_CODE_SLACK_STEPS (fp16's
rounding of s moves the range's end by 15 * 2^-11 = 0.007 steps; float32 arithmetic far less) and,
where s is subnormal in fp16, 15 * 2^-25 / s. Rounding the zero point moves the end by 1/2, which is
the same half: so a clamped code needs no allowance of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgebench.checker.subject import Subject
from edgebench.checker.tensors import NoRecipe, TensorSource, open_source
from edgebench.errors import BundleError
from edgebench.findings import Finding, finding
from edgebench.profiles import MAX_CODE, NEAREST_CODE_SLACK_STEPS, UNVERIFIED_TRANSFORMS
from edgebench_kernels.formats import Int4Tensor, tensor_sha256

CHUNK_WEIGHTS = 1 << 20  # temporaries of some 10 MB
SCALE_ROUNDING = 2.0**-10  # twice fp16's relative rounding
SMALLEST_SCALE = 2.0**-24  # the smallest fp16 above 0 stands in for a group of zeros
SUBNORMAL_STEP = 2.0**-25  # half the spacing of fp16's subnormals
MAX_FINDINGS = 3  # of one rule; the rest is counted

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    rule: str
    expected: str
    came: str


def check_weights(subject: Subject) -> Iterator[Finding]:
    """W-03, W-04, W-05, W-06, W-09: exactly the reference's linears, each within half a step."""
    try:
        with open_source(subject) as source:
            faults = [*_names(subject, source), *_tensors(subject, source)]
    except BundleError as err:
        is_unverified = isinstance(err, NoRecipe) and not _is_rounding(subject)
        yield finding("W-09" if is_unverified else "W-06", "the quantized tensors", err)
        return
    for rule in sorted({fault.rule for fault in faults}):
        own = [fault for fault in faults if fault.rule == rule]
        for fault in own[:MAX_FINDINGS]:
            yield finding(rule, fault.expected, fault.came)
        if len(own) > MAX_FINDINGS:
            yield finding(rule, own[0].expected, f"{len(own) - MAX_FINDINGS} more of this kind")


def _names(subject: Subject, source: TensorSource) -> Iterator[_Fault]:
    listed, held = frozenset(subject.bundle.ledger.tensors), source.names()
    if listed != held:
        came = ", ".join(sorted(listed ^ held)[:MAX_FINDINGS])
        yield _Fault(
            rule="W-06", expected="the ledger to name the tensors", came=f"only one: {came}"
        )
    if subject.bundle.record.track == "closed" and held != subject.workload.shapes.keys():
        differing = sorted(held ^ subject.workload.shapes.keys())[:MAX_FINDINGS]
        came = f"differing: {', '.join(differing)}"
        yield _Fault(rule="W-03", expected="exactly the linear layers", came=came)


def _is_rounding(subject: Subject) -> bool:
    """Whether codes must stand for the reference's own weights; W-09 tells where they do not."""
    return not {step.transform for step in subject.bundle.ledger.steps} & UNVERIFIED_TRANSFORMS


def _tensors(subject: Subject, source: TensorSource) -> Iterator[_Fault]:
    shapes = subject.workload.shapes
    is_closed = subject.bundle.record.track == "closed"
    is_rounding = _is_rounding(subject)
    for name, listed in sorted(subject.bundle.ledger.tensors.items()):
        if name not in source.names():
            continue
        try:
            tensor = source.get(name)
        except ValueError as err:
            yield _Fault(rule="W-05", expected=f"a canonical tensor {name}", came=str(err))
            continue
        came = tensor_sha256(tensor)
        if came != listed:
            yield _Fault(rule="W-06", expected=f"{name} with sha256 {listed}", came=came)
        if not is_closed or name not in shapes:
            continue
        if tensor.shape != shapes[name]:
            expected = f"{name} of shape {list(shapes[name])}"
            yield _Fault(rule="W-03", expected=expected, came=str(list(tensor.shape)))
            continue
        if is_rounding:
            yield from compare(name, tensor, subject.workload.reference.weight(name))


def compare(name: str, tensor: Int4Tensor, weight: npt.NDArray[np.float16]) -> Iterator[_Fault]:
    """Yield the faults of one tensor against the reference weight [N, K] that it stands for."""
    if not np.isfinite(tensor.scale).all() or (tensor.scale <= 0).any():
        yield _Fault(rule="W-05", expected=f"finite scales above 0 in {name}", came="others")
        return
    if (tensor.zero > MAX_CODE).any():
        came = str(int(tensor.zero.max()))
        yield _Fault(rule="W-05", expected=f"zero points <= {MAX_CODE} in {name}", came=came)
        return
    wide = far = 0
    farthest = 0.0
    rows = max(1, CHUNK_WEIGHTS // weight.shape[1])
    for first in range(0, weight.shape[0], rows):
        part = slice(first, first + rows)
        grouped = weight[part].astype(np.float32).reshape(-1, tensor.scale.shape[1], tensor.group)
        scale = tensor.scale[part].astype(np.float32)
        wide += _too_wide(grouped, scale)
        distance = _distance(grouped, scale, tensor, part)
        limit = 0.5 + np.maximum(NEAREST_CODE_SLACK_STEPS, MAX_CODE * SUBNORMAL_STEP / scale)
        far += int((distance > limit[:, :, None]).sum())
        farthest = max(farthest, float(distance.max()))
    if wide:
        expected = f"scales of {name} no wider than their groups need"
        yield _Fault(rule="W-05", expected=expected, came=f"{wide} wider")
    if far:
        came = f"{far} of {weight.size} farther, up to {farthest:.2f} steps"
        yield _Fault(rule="W-04", expected=f"{name} within half a step everywhere", came=came)


def _too_wide(grouped: Floats, scale: Floats) -> int:
    """Count the groups whose step exceeds absmax / 7.5, which both zero-inclusive forms keep."""
    absmax = np.abs(grouped).max(axis=2)
    limit = absmax / (MAX_CODE / 2) * (1 + SCALE_ROUNDING) + SMALLEST_SCALE
    return int((scale > limit).sum())


def _distance(grouped: Floats, scale: Floats, tensor: Int4Tensor, part: slice) -> Floats:
    """Return |code - target| in steps, shape [rows, groups, G]."""
    qweight = tensor.qweight[part]
    codes = np.empty((qweight.shape[0], 2 * qweight.shape[1]), dtype=np.float32)
    codes[:, 0::2] = qweight & 0x0F
    codes[:, 1::2] = qweight >> 4
    target = grouped / scale[:, :, None] + tensor.zero[part].astype(np.float32)[:, :, None]
    distance: Floats = np.abs(codes.reshape(target.shape) - target)
    return distance
