"""The open track: the filed tensors are the model, and every number of its ledger is theirs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from edgebench.bundle import Bundle
from edgebench.checker.derivation import equal
from edgebench.checker.subject import Subject
from edgebench.checker.tensors import open_source
from edgebench.errors import BundleError, SpecError
from edgebench.findings import Finding, finding
from edgebench.open_model import (
    Fp16,
    describe,
    kept_shapes,
    linear_shapes,
    not_closed,
)
from edgebench.profiles import MAX_CODE
from edgebench.record import OpenModel, OpenShape, TensorFacts, TransformStep
from edgebench.transform import CHANGES as CHANGE_STEPS
from edgebench.transform import nas
from edgebench.transform.distill import STUDENT_SHAPE
from edgebench.transform.finetuning import read_finetune
from edgebench.transform.pruning import PruneRequest, read_prune
from edgebench.transform.quantized import array_sha256
from edgebench_kernels.formats import Int4Tensor

CHANGES = frozenset(CHANGE_STEPS) - {nas.NAME}  # a searched subnet is an open_subnet: O-07
TRAINED = frozenset({"distill", "finetune"})
SHARE_TOLERANCE = 0.01  # ours: a row's or a block's share is a whole number of its weights
MAX_FINDINGS = 3


def check_filed(subject: Subject) -> Iterator[Finding]:
    """O-01: the tensors are all there, in the declared shape, with the ledger's hashes."""
    model = subject.bundle.ledger.open_model
    changes = [step for step in subject.bundle.ledger.steps if step.transform in CHANGES]
    if subject.workload.kind == "images" and model is None:
        return  # checker.network
    if (model is None) != (not changes):
        text = "an open_model in the ledger exactly where a step changed the model"
        yield finding("O-01", text, "none" if model is None else "one without such a step")
    if model is None:
        return
    faults = list(_filed_faults(subject, model))
    for expected, came in faults[:MAX_FINDINGS]:
        yield finding("O-01", expected, came)


def _filed_faults(subject: Subject, model: OpenModel) -> Iterator[tuple[str, object]]:
    ledger = subject.bundle.ledger
    try:
        kept, quantized = kept_arrays(subject), dict(_quantized(subject))
    except (BundleError, ValueError) as err:
        yield "readable tensors", err
        return
    if quantized:
        yield from _named("INT4 linears", linear_shapes(model.shape).keys(), quantized.keys())
    shapes = kept_shapes(model.shape, is_quantized=bool(quantized))
    yield from _named("tensors in open.safetensors", shapes.keys(), kept.keys())
    yield from _named("hashes in the ledger", kept.keys(), model.kept.keys())
    for name, array in kept.items():
        if array.shape != shapes.get(name) or array.dtype != np.float16:
            yield f"{name} fp16 {shapes.get(name)}", f"{array.dtype} {array.shape}"
        elif not np.isfinite(array).all():
            yield f"finite values in {name}", "others"
        elif (came := array_sha256(array)) != model.kept.get(name):
            yield f"{name} with sha256 {model.kept.get(name)}", came
    for name, size in linear_shapes(model.shape).items():
        tensor = quantized.get(name)
        if tensor is not None:
            yield from _tensor_faults(name, tensor, size)
    if ledger.tensors and subject.bundle.tensors_path is None:
        yield "int4.safetensors in the bundle of an open model", "none"


def _named(what: str, expected: Iterable[str], came: Iterable[str]) -> Iterator[tuple[str, object]]:
    differing = sorted(set(expected) ^ set(came))
    if differing:
        yield f"{what} of the shape, each once", f"differing: {', '.join(differing[:3])}"


def _tensor_faults(
    name: str, tensor: Int4Tensor, size: tuple[int, int]
) -> Iterator[tuple[str, object]]:
    if tensor.shape != size:
        yield f"{name} of shape {list(size)}", list(tensor.shape)
    if not np.isfinite(tensor.scale).all() or (tensor.scale <= 0).any():
        yield f"finite scales above 0 in {name}", "others"
    if (tensor.zero > MAX_CODE).any():
        yield f"zero points <= {MAX_CODE} in {name}", int(tensor.zero.max())


def kept_arrays(subject: Subject) -> dict[str, Fp16]:
    """See filed_arrays."""
    return filed_arrays(subject.bundle)


def filed_arrays(bundle: Bundle) -> dict[str, Fp16]:
    """What open.safetensors holds; BundleError where it cannot be read."""
    path = bundle.open_path
    if path is None:
        raise BundleError("[open.safetensors] expected the open model's fp16 tensors, got no file")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError) as err:
        raise BundleError(f"[open.safetensors] expected readable tensors, got {err}") from err


def _quantized(subject: Subject) -> Iterator[tuple[str, Int4Tensor]]:
    if not subject.bundle.ledger.tensors:
        return
    with open_source(subject) as source:
        for name in sorted(source.names()):
            yield name, source.get(name)


def _is_whole(subject: Subject, model: OpenModel) -> bool:
    """Whether O-01 has nothing to say, so that numbers can be derived at all."""
    return not any(_filed_faults(subject, model))


def check_facts(subject: Subject) -> Iterator[Finding]:
    """O-02: every number of the open ledger, derived from the tensors again."""
    model = subject.bundle.ledger.open_model
    if model is None or not _is_whole(subject, model):
        return
    derived = describe(model.shape, _quantized(subject), kept_arrays(subject), model.training)
    yield from _differing("", derived.model_dump(), model.model_dump())


def _differing(
    where: str, expected: Mapping[str, object], came: Mapping[str, object]
) -> Iterator[Finding]:
    for name in sorted(expected.keys() | came.keys()):
        own, right = came.get(name), expected.get(name)
        if isinstance(own, Mapping) and isinstance(right, Mapping):
            yield from _differing(f"{where}{name}.", right, own)
        elif not equal(own, right):
            yield finding("O-02", f"{where}{name} = {right}", own)


def check_steps(subject: Subject) -> Iterator[Finding]:
    """O-03: what each step says is in the model."""
    bundle = subject.bundle
    model, shape = bundle.ledger.open_model, _first_shape(subject)
    if model is None:
        return
    last: PruneRequest | None = None
    for step in bundle.ledger.steps:
        if step.transform != "prune":
            continue
        try:
            request = read_prune(step.parameters)
        except (SpecError, TypeError, ValueError) as err:
            yield finding("O-03", "a prune step that can be followed", err)
            continue
        used = step.calibration_sha256
        expected = subject.workload.calibration_sha256 if request.needs_data else None
        if used != expected:
            yield finding("O-03", f"{request.method} with calibration {expected}", used)
        if request.pattern is not None:
            last = request
        elif shape is not None:
            shape = _cut(shape, request)
    if shape is not None and shape != model.shape:
        yield finding("O-03", f"a model of shape {shape}, what its steps leave", model.shape)
    if last is not None:
        yield from _pattern_findings(last, model)


def _first_shape(subject: Subject) -> OpenShape | None:
    """What is cut: the reference's shape, or that of the student that took its place.

    The vocabulary stays the reference's.
    """
    shape = subject.reference_shape
    first = next(iter(subject.bundle.ledger.steps), None)
    if shape is None or first is None or first.transform != "distill":
        return shape
    told = {name: first.parameters.get(name) for name in STUDENT_SHAPE}
    try:
        return OpenShape.model_validate({**shape.model_dump(), **told})
    except ValidationError:
        return shape


def _cut(shape: OpenShape, request: PruneRequest) -> OpenShape:
    """A shape after a structured step."""
    if request.method == "layers":
        return shape.model_copy(update={"layers": shape.layers - request.count})
    if request.method == "units":
        left = shape.intermediate_size - round(shape.intermediate_size * request.share)
        return shape.model_copy(update={"intermediate_size": left})
    left = shape.kv_heads - round(shape.kv_heads * request.share)
    heads = left * (shape.heads // shape.kv_heads)
    return shape.model_copy(update={"kv_heads": left, "heads": heads})


def _pattern_findings(request: PruneRequest, model: OpenModel) -> Iterator[Finding]:
    body = {
        name: facts
        for name, facts in model.tensors.items()
        if name.startswith("model.layers.") and name.endswith("_proj")
    }
    return pattern_findings(request, body, "every linear of the layers", "the layers' weights")


def pattern_findings(
    request: PruneRequest, tensors: Mapping[str, TensorFacts], every: str, weights: str
) -> Iterator[Finding]:
    """A pattern is in all of these tensors; a share is at least reached. The words name them."""
    pattern = request.pattern
    if pattern is None:
        return
    if pattern.is_grouped:
        looser = {str(pattern)} if pattern.width == 4 else {"2:4", "4:8"}
        wrong = [name for name, facts in tensors.items() if facts.pattern not in looser]
        if wrong:
            text = f"{pattern} in {every}, as {request.method} says"
            yield finding("O-03", text, f"{tensors[wrong[0]].pattern} in {wrong[0]}")
        return
    total = sum(facts.weights for facts in tensors.values())
    zeros = 1 - sum(facts.nonzero for facts in tensors.values()) / total if total else 0.0
    if zeros < pattern.share - SHARE_TOLERANCE:
        text = f"{pattern.share:.1%} of {weights} at zero, as {request.method} says"
        yield finding("O-03", text, f"{zeros:.1%}")


def check_training(subject: Subject) -> Iterator[Finding]:
    """O-04: a training entry for each finetune or distill step, and what it must say."""
    model = subject.bundle.ledger.open_model or subject.bundle.ledger.open_network
    if model is None:
        return
    steps = [step for step in subject.bundle.ledger.steps if step.transform in TRAINED]
    if len(steps) != len(model.training):
        yield finding("O-04", f"{len(steps)} training entries", len(model.training))
        return
    for step, cost in zip(steps, model.training, strict=True):
        if cost.teacher_sha256 != subject.workload.reference_sha256:
            yield finding(
                "O-04", f"the teacher {subject.workload.reference_sha256}", cost.teacher_sha256
            )
        if (cost.student_sha256 is None) != (step.transform == "finetune"):
            yield finding("O-04", "a student's hash exactly at distill", cost.student_sha256)
        if step.transform == "distill":
            continue  # O-06
        expected = _asked(step)
        if (cost.steps, cost.examples) != expected:
            text = f"{expected[0]} steps of {expected[1]} examples in all, as the step says"
            yield finding("O-04", text, f"{cost.steps} and {cost.examples}")


def _asked(step: TransformStep) -> tuple[int, int]:
    try:
        request = read_finetune(step.parameters)
    except (SpecError, TypeError, ValueError):
        return 0, 0
    return request.steps, request.examples


def check_not_closed(subject: Subject) -> Iterator[Finding]:
    """O-05: the record lists what bars it from the closed track; a closed bundle lists nothing."""
    record, ledger = subject.bundle.record, subject.bundle.ledger
    expected = not_closed(ledger, subject.reference_shape)
    if record.not_closed != expected:
        came = "; ".join(record.not_closed) or "none"
        yield finding("O-05", "; ".join(expected) or "nothing that bars it from closed", came)
    if record.track == "closed":
        models = ledger.open_model, ledger.open_subnet, ledger.open_network
        has_open = any(models) or subject.bundle.open_path is not None
        has_open = has_open or subject.bundle.coded_path is not None
        if has_open or "open" in subject.kernels:
            yield finding("O-05", "no open model in the closed track", "one")
