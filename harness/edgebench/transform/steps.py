"""From a chain of calibrated transforms to a quantized model with its ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from edgebench.errors import SpecError
from edgebench.record import TransformStep
from edgebench.transform import Parameter, TransformChain
from edgebench.transform.awq import Awq
from edgebench.transform.calibrated import Method, Outcome, Progress, Rounder, Smoother, quantize
from edgebench.transform.calibration import DEFAULT_SAMPLES, CalibrationSet
from edgebench.transform.constants import DAMPING, SEARCHED
from edgebench.transform.gptq import Gptq
from edgebench.transform.grid import GridForm
from edgebench.transform.quantized import (
    Folded,
    Linears,
    QuantizedModel,
    folded_sha256,
    model_sha256,
)
from edgebench.transform.rtn import DEFAULT_GROUP, GROUPS
from edgebench.transform.smoothquant import SmoothQuant

BITS = 4

Shared = Mapping[str, Parameter]


def apply(
    chain: TransformChain,
    reference: Linears,
    calibration: CalibrationSet,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize, and write a step for each transform of the chain; see apply_transform."""
    shared = _shared(chain, min(DEFAULT_SAMPLES, len(calibration.sequences)))
    own = {step.name: _own(step.name, step.parameters) for step in chain.steps}
    method = Method(
        form=GridForm(
            group=cast(int, shared["group"]), bits=BITS, symmetric=bool(shared["symmetric"])
        ),
        smoother=next((SMOOTHERS[name](own[name]) for name in own if name in SMOOTHERS), None),
        rounder=next((ROUNDERS[name](own[name]) for name in own if name in ROUNDERS), None),
    )
    sequences = calibration.first(cast(int, shared["samples"]))
    outcome = quantize(reference, sequences, method, progress=progress)
    folded = Folded(norms=outcome.norms, biases=outcome.biases, scales=outcome.scales)
    steps = []
    before = reference.sha256
    for name, parameters in own.items():
        is_last = name == chain.names[-1]
        after = model_sha256(outcome.tensors, folded) if is_last else folded_sha256(folded)
        steps.append(
            TransformStep(
                transform=name,
                parameters={"bits": BITS, **shared, **_written(parameters)},
                before_sha256=before,
                after_sha256=after,
                calibration_sha256=calibration.sha256,
                choices=_choices(name, outcome),
            )
        )
        before = after
    return QuantizedModel(tensors=outcome.tensors, steps=tuple(steps), folded=folded)


def _shared(chain: TransformChain, samples: int) -> dict[str, Parameter]:
    """The parameters that all transforms of a chain have in common."""
    shared: dict[str, Parameter] = {
        "group": DEFAULT_GROUP, "symmetric": False, "samples": samples,
    }  # fmt: skip
    given: dict[str, Parameter] = {}
    for step in chain.steps:
        for name in shared.keys() & step.parameters.keys():
            value = step.parameters[name]
            if given.setdefault(name, value) != value:
                raise SpecError(
                    f"[transform] expected one {name} in {chain}, got {given[name]} and {value}"
                )
    if given.get("group", DEFAULT_GROUP) not in GROUPS:
        raise SpecError(
            f"[transform] expected group to be one of {GROUPS}, got {given['group']} in {chain}"
        )
    return shared | given


def _own(name: str, given: Mapping[str, Parameter]) -> dict[str, Parameter | None]:
    """A transform's own parameters, with what was not given."""
    own = {key: given.get(key, default) for key, default in DEFAULTS[name].items()}
    for key, (low, high) in RANGES.items():
        value = own.get(key)
        if value is not None and not low <= float(value) <= high:
            raise SpecError(
                f"[transform] expected {name}'s {key} to be {low:g}..{high:g}, got {value}"
            )
    return own


def _written(parameters: Mapping[str, Parameter | None]) -> dict[str, Parameter]:
    return {key: SEARCHED if value is None else value for key, value in parameters.items()}


def _choices(name: str, outcome: Outcome) -> dict[str, float]:
    """The exponents that a search chose, for the step that chose them."""
    return outcome.exponents if name in SMOOTHERS else {}


_Own = Mapping[str, Parameter | None]

DEFAULTS: Mapping[str, _Own] = {
    "awq": {"clip": True},
    "gptq": {"damping": Gptq().damping, "act_order": True},
    "smoothquant": {"alpha": None},
}
RANGES: Mapping[str, tuple[float, float]] = {
    "damping": DAMPING,
    "alpha": (0.0, 1.0),
}
SMOOTHERS: Mapping[str, Callable[[_Own], Smoother]] = {
    "awq": lambda own: Awq(clip=bool(own["clip"])),
    "smoothquant": lambda own: SmoothQuant(alpha=cast("float | None", own["alpha"])),
}
ROUNDERS: Mapping[str, Callable[[_Own], Rounder]] = {
    "gptq": lambda own: Gptq(damping=cast(float, own["damping"]), act_order=bool(own["act_order"])),
}
