"""What a ledger says was done to the weights, read strictly: the submitter's words, as types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from edgebench.errors import BundleError
from edgebench.profiles import CLOSED_BITS
from edgebench.record import TransformStep
from edgebench.transform import PARAMETERS
from edgebench.transform.constants import DAMPING, SEARCHED
from edgebench.transform.rtn import CONVOLUTION_BITS, DEFAULT_GROUP, GROUPS, UNROUNDED_BITS
from edgebench_kernels.formats import fitting_group

Value = int | float | str | bool | None

CHOICES: Mapping[str, Sequence[Value]] = {
    "bits": (CLOSED_BITS,), "group": GROUPS, "convolution_bits": CONVOLUTION_BITS,
}  # fmt: skip
"""Of parameters that take few values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One chain of the closed track; `smooth` and `feedback` name its steps, None where absent."""

    group: int
    symmetric: bool
    whole_rows: bool = False
    convolution_bits: int = UNROUNDED_BITS
    samples: int = 0
    smooth: str | None = None
    clip: bool = False
    alpha: float | None = None
    """Given for SmoothQuant; None: searched."""
    feedback: str | None = None
    damping: float = 0.0
    act_order: bool = False
    choices: Mapping[str, float]
    """Feeder -> exponent."""

    @property
    def needs_data(self) -> bool:
        """Whether codes or grids follow from the weights alone."""
        return self.smooth is not None or self.feedback is not None

    def group_of(self, k: int) -> int:
        """The group of rows of K weights."""
        return fitting_group(k, self.group, whole_rows=self.whole_rows)


def read_recipe(steps: Sequence[TransformStep]) -> Recipe:
    """The recipe of a ledger's steps; BundleError for parameters that no such transform has."""
    own = {step.transform: _checked(step) for step in steps}
    first = next(iter(own.values()))
    for name in ("group", "symmetric", "samples"):
        if len({values.get(name) for values in own.values()}) > 1:
            raise BundleError(f"[ledger] expected one {name} in all steps, got several")
    smooth = next((name for name in ("awq", "smoothquant") if name in own), None)
    smoothing = own.get(smooth or "", {})
    feedback = own.get("gptq")
    alpha = smoothing.get("alpha", SEARCHED)
    return Recipe(
        group=cast(int, first.get("group", DEFAULT_GROUP)),
        symmetric=bool(first.get("symmetric", False)),
        whole_rows=bool(first.get("whole_rows", False)),
        convolution_bits=cast(int, first.get("convolution_bits", UNROUNDED_BITS)),
        samples=cast(int, first.get("samples", 0)),
        smooth=smooth,
        clip=bool(smoothing.get("clip", False)),
        alpha=None if alpha == SEARCHED else float(cast(float, alpha)),
        feedback=None if feedback is None else "gptq",
        damping=float(cast(float, (feedback or {}).get("damping", 0.0))),
        act_order=bool((feedback or {}).get("act_order", False)),
        choices={path: choice for step in steps for path, choice in step.choices.items()},
    )


def _checked(step: TransformStep) -> Mapping[str, Value]:
    """The parameters of one step, each of its type and in its range."""
    known = {"bits": int, **PARAMETERS[step.transform]}
    needed = set() if step.transform == "rtn" else known.keys()
    if not needed <= step.parameters.keys() <= known.keys():
        wrong = ", ".join(sorted(known.keys() ^ step.parameters.keys()))
        raise BundleError(f"[ledger] expected the parameters of {step.transform}, got {wrong} else")
    for name, value in step.parameters.items():
        if not _fits(name, value, known[name]):
            raise BundleError(f"[ledger] expected a {name} that {step.transform} has, got {value}")
    return step.parameters


def _fits(name: str, value: Value, kind: type) -> bool:
    if name == "alpha" and value == SEARCHED:
        return True
    if isinstance(value, bool) != (kind is bool):
        return False
    if not isinstance(value, (int, float) if kind is float else kind):
        return False
    if name in CHOICES:
        return value in CHOICES[name]
    limits = {"samples": (1, 1 << 20), "damping": DAMPING, "alpha": (0.0, 1.0)}
    low, high = limits.get(name, (0, 1))
    return low <= cast(float, value) <= high
