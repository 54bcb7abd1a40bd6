"""What a `prune` step asks for: one method, with the pattern or the amount that it removes.

    prune:magnitude=0.5,scope=global   prune:wanda=2:4   prune:sparsegpt=4:8,damping=0.01
    prune:heads=0.25                   prune:units=0.25  prune:layers=1

N:M keeps N of every M weights that follow each other along K, as sparse tensor cores need it. The
first three set weights to zero; the last three make a smaller model. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from edgebench.errors import SpecError
from edgebench.transform.constants import DAMPING

Masking = Literal["magnitude", "wanda", "sparsegpt"]
Structural = Literal["heads", "units", "layers"]
Scope = Literal["tensor", "global"]

MASKING: tuple[Masking, ...] = get_args(Masking)
STRUCTURAL: tuple[Structural, ...] = get_args(Structural)
METHODS: tuple[str, ...] = (*MASKING, *STRUCTURAL)
PARAMETERS: Mapping[str, type] = {
    "magnitude": str, "wanda": str, "sparsegpt": str, "heads": float, "units": float,
    "layers": int, "scope": str, "samples": int, "damping": float, "refit": bool,
}  # fmt: skip
OWN: Mapping[str, frozenset[str]] = {
    "magnitude": frozenset({"scope"}),
    "wanda": frozenset({"samples"}),
    "sparsegpt": frozenset({"samples", "damping"}),
    "heads": frozenset({"samples", "refit"}),
    "units": frozenset({"samples", "refit"}),
    "layers": frozenset({"samples"}),
}
"""Method -> the parameters that it takes beside its own."""
PATTERNS: tuple[tuple[int, int], ...] = ((2, 4), (4, 8))
"""(kept, of how many) that a step may ask for; the first is what sparse tensor cores read."""
UNIT = 32  # a structured cut leaves multiples of it: the smallest group of an INT4 tensor
DEFAULT_DAMPING = 0.01  # sparsegpt.py percdamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Which weights may stay: kept of every `width` along K, or a share of all to remove."""

    kept: int = 0
    width: int = 0
    share: float = 0.0
    """Of weights to remove; 0 where the pattern is N:M."""

    @property
    def is_grouped(self) -> bool:
        """Whether it is N:M."""
        return self.width > 0

    def __str__(self) -> str:
        return f"{self.kept}:{self.width}" if self.is_grouped else f"{self.share:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneRequest:
    """One `prune` step, checked; exactly one of pattern, share and count is meant."""

    method: str
    pattern: Pattern | None = None
    """Of the three that set weights to zero."""
    share: float = 0.0
    """Of heads or units."""
    count: int = 0
    """Of layers."""
    scope: Scope = "tensor"
    samples: int | None = None
    damping: float = DEFAULT_DAMPING
    refit: bool = True
    """Whether what stays of a cut layer makes up for what went."""

    @property
    def needs_data(self) -> bool:
        """Whether it looks at the calibration set."""
        return self.method != "magnitude"


def read_pattern(where: str, text: str) -> Pattern:
    """Parse `2:4`, `4:8` or a share between 0 and 1; SpecError for anything else."""
    grouped = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text)
    if grouped:
        kept, width = int(grouped[1]), int(grouped[2])
        if (kept, width) not in PATTERNS:
            known = " or ".join(f"{n}:{m}" for n, m in PATTERNS)
            raise SpecError(f"[prune] expected {where} to be {known}, or a share, got {text!r}")
        return Pattern(kept=kept, width=width)
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    return Pattern(share=_share(where, share, text))


def _share(where: str, share: float, text: object) -> float:
    """A share strictly between 0 and 1: 0 prunes nothing, 1 leaves nothing."""
    if not 0.0 < share < 1.0:
        raise SpecError(
            f"[prune] expected {where} to remove a share between 0 and 1, both excluded, got "
            f"{text}; 0.5 removes half"
        )
    return share


def read_prune(parameters: Mapping[str, object]) -> PruneRequest:
    """Check the parameters of a step; SpecError says what does not go together."""
    named = [name for name in METHODS if name in parameters]
    if len(named) != 1:
        came = " and ".join(named) or "none"
        raise SpecError(
            f"[prune] expected one method out of {', '.join(METHODS)}, got {came}; join several "
            "steps with +"
        )
    method = named[0]
    if strangers := sorted(parameters.keys() - {method} - OWN[method]):
        raise SpecError(f"[prune] expected no {strangers[0]} with {method}; omit it")
    value = parameters[method]
    samples = cast("int | None", parameters.get("samples"))
    if samples is not None and samples < 1:
        raise SpecError(f"[prune] expected samples to be at least 1, got {samples}")
    if method in MASKING:
        return _masking(method, str(value), parameters, samples)
    if method == "layers":
        if (count := cast(int, value)) < 1:
            raise SpecError(f"[prune] expected layers to remove at least 1, got {count}")
        return PruneRequest(method=method, count=count, samples=samples)
    return PruneRequest(
        method=method,
        share=_share(method, float(cast(float, value)), value),
        samples=samples,
        refit=bool(parameters.get("refit", True)),
    )


def _masking(
    method: str, text: str, parameters: Mapping[str, object], samples: int | None
) -> PruneRequest:
    pattern = read_pattern(method, text)
    scope = parameters.get("scope", "tensor")
    if scope not in get_args(Scope):
        raise SpecError(f"[prune] expected scope to be tensor or global, got {scope!r}")
    if pattern.is_grouped and "scope" in parameters:
        raise SpecError(f"[prune] expected no scope with {pattern}, which is local; omit it")
    damping = float(cast(float, parameters.get("damping", DEFAULT_DAMPING)))
    if not DAMPING[0] <= damping <= DAMPING[1]:
        raise SpecError(
            f"[prune] expected damping to be {DAMPING[0]:g}..{DAMPING[1]:g}, got {damping:g}"
        )
    return PruneRequest(
        method=method, pattern=pattern, scope=cast(Scope, scope), samples=samples, damping=damping
    )


def kept_count(what: str, count: int, share: float, multiple: int = 1) -> int:
    """How many of `count` stay; SpecError where that is no multiple, or none or all of them."""
    removed = count * share
    kept = count - round(removed)
    if abs(removed - round(removed)) > 1e-6 * count or kept % multiple or not 0 < kept < count:
        step = multiple if count % multiple == 0 else count
        reachable = [(count - left) / count for left in range(step, count, step)]
        nearest = min(reachable, key=lambda one: abs(one - share), default=None)
        hint = "" if nearest is None else f"; the nearest that does is {nearest:.6g}"
        raise SpecError(
            f"[prune] expected a share of {what} that leaves a multiple of {multiple} of "
            f"{count}, got {share:g}{hint}"
        )
    return kept
