"""What a `finetune` step asks for: steps, batch, rate and seed. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgebench.errors import SpecError

PARAMETERS: Mapping[str, type] = {"steps": int, "batch": int, "rate": float, "seed": int}
LIMITS: Mapping[str, tuple[float, float]] = {
    "steps": (1, 100_000),
    "batch": (1, 1024),
    "rate": (1e-8, 1.0),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRequest:
    """Recovery on the workload's training set, towards the reference's logits."""

    steps: int = 200
    batch: int = 32
    """Examples a step."""
    rate: float = 3e-4
    """The peak of the learning rate; it warms up, and falls to 0 at the last step."""
    seed: int = 0
    """Where in the training stream it begins: batch `seed * 1e6 / batch` onwards."""

    @property
    def examples(self) -> int:
        """Examples seen in all."""
        return self.steps * self.batch


def read_finetune(parameters: Mapping[str, object]) -> FinetuneRequest:
    """Check the parameters of a step; SpecError names the limit."""
    for name, (low, high) in LIMITS.items():
        value = parameters.get(name)
        if value is not None and not low <= float(str(value)) <= high:
            raise SpecError(f"[finetune] expected {name} to be {low:g}..{high:g}, got {value}")
    return FinetuneRequest(**parameters)  # type: ignore[arg-type]
