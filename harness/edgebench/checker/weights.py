"""Weights: every tensor is named, sane, and what the reference's weights become by the recipe.

Rounding alone follows from each weight by itself (`codes.judge`); whatever learned from data is
retraced from the calibration set (`retrace`). Each finding names the rule that its test belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from edgebench.checker.codes import Judged, judge
from edgebench.checker.recipe import Recipe, read_recipe
from edgebench.checker.retrace import Submission, retrace, scaled_paths
from edgebench.checker.scales import Scaled
from edgebench.checker.subject import Subject
from edgebench.checker.tensors import TensorSource, open_source
from edgebench.errors import BundleError
from edgebench.findings import Finding, finding
from edgebench.profiles import (
    CLOSED_TRANSFORMS,
    MAX_CODE,
    MAX_REPLAYED_ZEROS,
    MIN_REPLAYED_SHARE,
)
from edgebench.progress import slow_stage
from edgebench_kernels.formats import Int4Tensor, tensor_sha256

MAX_FINDINGS = 3  # of one rule; the rest is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One finding before it is counted with its kind."""

    rule: str
    expected: str
    came: str


def check_weights(subject: Subject) -> Iterator[Finding]:
    """W-02, W-03, W-04, W-05, W-06, W-07, W-09, W-10, W-11, W-12: linears as the recipe says."""
    is_closed = subject.bundle.record.track == "closed"
    ledger = subject.bundle.ledger
    is_open = any((ledger.open_model, ledger.open_subnet, ledger.open_network))
    if not is_closed and is_open and not ledger.tensors:
        return  # the open model stays fp16: O-01, O-07 or O-08 looks at its tensors
    try:
        recipe = _recipe(subject) if is_closed else None
    except BundleError as err:
        yield finding("W-07", "a recipe that can be followed", err)
        recipe = None
    try:
        with open_source(subject) as source:
            faults = [*_names(subject, source), *_tensors(subject, source, recipe)]
            if recipe is not None and recipe.needs_data and not faults:
                faults = list(_retraced(subject, source, recipe))
    except BundleError as err:
        yield finding("W-06", "the quantized tensors", err)
        return
    for rule in sorted({fault.rule for fault in faults}):
        own = [fault for fault in faults if fault.rule == rule]
        for fault in own[:MAX_FINDINGS]:
            yield finding(rule, fault.expected, fault.came)
        if len(own) > MAX_FINDINGS:
            yield finding(rule, own[0].expected, f"{len(own) - MAX_FINDINGS} more of this kind")


def _recipe(subject: Subject) -> Recipe | None:
    """The closed track's recipe; None where W-07 refuses its steps."""
    steps = subject.bundle.ledger.steps
    if not steps or not {step.transform for step in steps} <= CLOSED_TRANSFORMS:
        return None
    return read_recipe(steps)


def _names(subject: Subject, source: TensorSource) -> Iterator[Fault]:
    listed, held = frozenset(subject.bundle.ledger.tensors), source.names()
    if listed != held:
        came = ", ".join(sorted(listed ^ held)[:MAX_FINDINGS])
        yield Fault(
            rule="W-06", expected="the ledger to name the tensors", came=f"only one: {came}"
        )
    if subject.bundle.record.track == "closed" and held != subject.workload.shapes.keys():
        differing = sorted(held ^ subject.workload.shapes.keys())[:MAX_FINDINGS]
        came = f"differing: {', '.join(differing)}"
        yield Fault(rule="W-03", expected="exactly the linear layers", came=came)


def _tensors(subject: Subject, source: TensorSource, recipe: Recipe | None) -> Iterator[Fault]:
    """Each tensor by itself: its hash, its shape, and its codes where they follow from it alone."""
    ledger, workload = subject.bundle.ledger, subject.workload
    is_closed = subject.bundle.record.track == "closed"
    names = [name for name in sorted(ledger.tensors) if name in source.names()]
    with slow_stage(subject.progress, f"{workload.name}: tensors") as update:
        for done, name in enumerate(names, start=1):
            try:
                tensor = source.get(name)
            except ValueError as err:
                yield Fault(rule="W-05", expected=f"a canonical tensor {name}", came=str(err))
                continue
            came = tensor_sha256(tensor)
            if came != ledger.tensors[name]:
                expected = f"{name} with sha256 {ledger.tensors[name]}"
                yield Fault(rule="W-06", expected=expected, came=came)
            if is_closed and name in workload.shapes:
                faults = list(_shape_and_sanity(name, tensor, workload.shapes[name], recipe))
                yield from faults
                if recipe is not None and not recipe.needs_data and not faults:
                    yield from compare(name, tensor, workload.reference.weight(name), recipe)
            update(done, len(names))


def _shape_and_sanity(
    name: str, tensor: Int4Tensor, shape: tuple[int, int], recipe: Recipe | None
) -> Iterator[Fault]:
    if tensor.shape != shape:
        expected = f"{name} of shape {list(shape)}"
        yield Fault(rule="W-03", expected=expected, came=str(list(tensor.shape)))
        return
    if not np.isfinite(tensor.scale).all() or (tensor.scale <= 0).any():
        yield Fault(rule="W-05", expected=f"finite scales above 0 in {name}", came="others")
    if (tensor.zero > MAX_CODE).any():
        came = str(int(tensor.zero.max()))
        yield Fault(rule="W-05", expected=f"zero points <= {MAX_CODE} in {name}", came=came)
    if recipe is not None and tensor.group != (group := recipe.group_of(shape[1])):
        yield Fault(rule="W-05", expected=f"groups of {group} in {name}", came=str(tensor.group))


def compare(
    name: str, tensor: Int4Tensor, weight: npt.NDArray[np.float16], recipe: Recipe
) -> Iterator[Fault]:
    """Yield the faults of one tensor against the reference weight [N, K] that it stands for."""
    judged = judge(name, weight.astype(np.float32), tensor, recipe, is_clipped=False)
    yield from faults_of(judged)


def _retraced(subject: Subject, source: TensorSource, recipe: Recipe) -> Iterator[Fault]:
    """W-09 to W-12, and W-04, for whatever learned from the calibration set."""
    model = subject.workload.model
    if model is None or recipe.samples > len(model.sequences):
        came = "no such set" if model is None else f"{recipe.samples} of {len(model.sequences)}"
        yield Fault(rule="W-02", expected="samples of the calibration set", came=came)
        return
    folded = _folded(subject)
    needed = scaled_paths(model.config, recipe)
    names = {f"{path}.scale" for path in needed}
    names |= {f"{path}.weight" for path, is_norm in needed.items() if is_norm}
    names |= {f"{path}.bias" for path in needed} & model.names
    if names != folded.keys() or needed.keys() != recipe.choices.keys():
        differing = sorted((names ^ folded.keys()) | (needed.keys() ^ recipe.choices.keys()))
        came = f"differing: {', '.join(differing[:MAX_FINDINGS])}"
        yield Fault(rule="W-09", expected="scales of every group that is scaled", came=came)
        return
    submission = Submission(recipe=recipe, tensor=source.get, folded=folded)
    try:
        with slow_stage(subject.progress, f"{subject.workload.name}: retracing") as update:
            for found in retrace(model, submission, update):
                yield from faults_of(found)
    except np.linalg.LinAlgError as err:
        yield Fault(rule="W-11", expected="a Hessian that has a factor", came=str(err))


def faults_of(found: Scaled | Judged) -> Iterator[Fault]:
    """The faults of one test, each with its rule."""
    if isinstance(found, Scaled):
        if found.fault is not None:
            yield Fault(rule="W-09", expected="scales that the calibration gives", came=found.fault)
        return
    if found.off_grid:
        came = f"{found.off_grid} of {found.groups} others"
        yield Fault(rule="W-10", expected=f"grids of {found.name} as its weights give", came=came)
    least = MIN_REPLAYED_SHARE if found.is_fed_back else 1.0
    if found.near_share < least:
        far = found.weights - found.near
        came = f"{far} of {found.weights} farther, up to {found.farthest:.2f} steps"
        if found.is_fed_back:
            expected = f"{found.name} nearest after error feedback in {least:.1%} of codes"
            yield Fault(rule="W-11", expected=expected, came=f"{found.near_share:.2%}: {came}")
        else:
            expected = f"{found.name} within half a step everywhere"
            yield Fault(rule="W-04", expected=expected, came=came)
    if found.zero_share > (MAX_REPLAYED_ZEROS if found.is_fed_back else 0):
        came = f"{found.unjustified_zeros} dropped"
        if found.pattern is not None:
            came += f", a {found.pattern} pattern"
        expected = f"no weight of {found.name} dropped that its code could keep"
        yield Fault(rule="W-12", expected=expected, came=came)


def _folded(subject: Subject) -> Mapping[str, npt.NDArray[np.generic]]:
    """What lies in folded.safetensors; W-06 tells where it cannot be read."""
    path = subject.bundle.folded_path
    if path is None:
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError):
        return {}
