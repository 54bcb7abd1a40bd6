"""What a `nas` step asks for: one constraint, and how long to search. Needs no torch.

    nas:latency=3ms   nas:memory=64KiB   nas:macs=5M

Latency is that of one image alone; memory the peak of activations by MCUNet's definition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from edgebench.errors import SpecError
from edgebench_workloads.wake.costs import peak_activations, total_macs
from edgebench_workloads.wake.genome import SMALLEST

Constraint = Literal["latency", "memory", "macs"]

NAME = "nas"
CONSTRAINTS: tuple[Constraint, ...] = get_args(Constraint)
PARAMETERS: Mapping[str, type] = {
    "latency": str, "memory": str, "macs": str,
    "samples": int, "generations": int, "seed": int,
}  # fmt: skip
UNITS: Mapping[Constraint, Mapping[str, int]] = {
    "latency": {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000},
    "memory": {"b": 1, "kb": 1_000, "kib": 1 << 10, "mb": 1_000_000, "mib": 1 << 20},
    "macs": {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000},
}
"""In ns, bytes and multiply-accumulates."""
EXAMPLES: Mapping[Constraint, str] = {"latency": "3ms", "memory": "64KiB", "macs": "5M"}
LIMITS: Mapping[str, tuple[int, int]] = {
    "samples": (20, 10_000),
    "generations": (1, 10_000),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NasRequest:
    """One `nas` step, checked."""

    constraint: Constraint
    limit: int
    """ns, bytes or multiply-accumulates; the subnet has at most so many."""
    text: str
    """The limit as written."""
    samples: int = 100
    """Subnets of the whole space that are evaluated directly; the predictor is fitted to them."""
    generations: int = 30
    seed: int = 0

    @property
    def parameters(self) -> dict[str, int | float | str | bool | None]:
        """As the ledger has them, defaults included."""
        return {
            self.constraint: self.text,
            "samples": self.samples,
            "generations": self.generations,
            "seed": self.seed,
        }


def read_nas(parameters: Mapping[str, object]) -> NasRequest:
    """Check the parameters of a step; SpecError says what does not go, or cannot be reached."""
    named = [name for name in CONSTRAINTS if name in parameters]
    if len(named) != 1:
        came = " and ".join(named) or "none"
        examples = ", ".join(f"nas:{name}={text}" for name, text in EXAMPLES.items())
        raise SpecError(f"[nas] expected one constraint ({examples}), got {came}")
    for name, (low, high) in LIMITS.items():
        value = parameters.get(name)
        if value is not None and not low <= int(str(value)) <= high:
            raise SpecError(f"[nas] expected {name} to be {low}..{high}, got {value}")
    text = str(parameters[named[0]]).lower()
    request = NasRequest(
        constraint=named[0],
        limit=_amount(named[0], text),
        text=text,
        **{name: cast(int, parameters[name]) for name in LIMITS if name in parameters},
    )
    if named[0] != "latency":  # that depends on the device
        check_reachable(request, smallest_cost(named[0]))
    return request


def smallest_cost(constraint: Constraint) -> int:
    """The least that any subnet needs on paper."""
    return peak_activations(SMALLEST) if constraint == "memory" else total_macs(SMALLEST)


def check_reachable(request: NasRequest, smallest: int) -> None:
    """SpecError for a limit that no subnet keeps, with the smallest that one does."""
    if request.limit < smallest:
        where = " on this device" if request.constraint == "latency" else ""
        least = shown(request.constraint, smallest)
        raise SpecError(
            f"[nas] expected {request.constraint} of at least {least}, the smallest that a subnet "
            f"reaches{where}, got {request.text}; ask for more"
        )


def shown(constraint: Constraint, amount: int) -> str:
    """A limit for people, never less than it is, in a unit that the step takes."""
    unit = {"latency": "us", "memory": "b", "macs": "k"}[constraint]
    return f"{-(-amount // UNITS[constraint][unit])}{unit}"


def _amount(constraint: Constraint, text: str) -> int:
    units = UNITS[constraint]
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([a-z]+)", text)
    if found is None or found[2] not in units:
        raise SpecError(
            f"[nas] expected {constraint} as a number with {', '.join(units)} behind it, such as "
            f"{EXAMPLES[constraint]}, got {text!r}"
        )
    return int(float(found[1]) * units[found[2]])
