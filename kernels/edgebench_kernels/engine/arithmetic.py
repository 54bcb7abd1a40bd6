"""Which arithmetic (fp16 reference) or kernel path (INT4) executes for how many rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Arithmetic = Literal["fp16", "bf16", "fp32"]
Regime = Literal["1", "2-16", ">16"]
Int4Path = Literal["w4a16", "w4a8"]
OpsName = Literal["native", "native-1", "torch"]
"""What runs between the linears: the kernels on their pool, or on the caller's thread, or torch."""

FEW_ROWS = 16
"""The widest product that still is a small one."""


def regime_of(rows: int) -> Regime:
    """The regime of a product of this many rows (tokens in flight, not sequences)."""
    if rows <= 1:
        return "1"
    return "2-16" if rows <= FEW_ROWS else ">16"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeTiming:
    """One probe: the model's linears in one arithmetic and one regime."""

    regime: Regime
    arithmetic: Arithmetic
    rows: int
    time_ns: int
    """All linears of the model once; scaled up from the layers that were timed."""
    is_extrapolated: bool
    """Cut before the last layer, because another arithmetic had clearly won or time was up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegimeChoice:
    """The arithmetic of each regime, with the timings behind it (none if it was not measured)."""

    single: Arithmetic
    few: Arithmetic
    many: Arithmetic
    timings: tuple[RegimeTiming, ...] = ()

    @staticmethod
    def uniform(arithmetic: Arithmetic) -> RegimeChoice:
        """The same arithmetic whatever the rows."""
        return RegimeChoice(single=arithmetic, few=arithmetic, many=arithmetic)

    def for_rows(self, rows: int) -> Arithmetic:
        """The arithmetic for a product of this many rows."""
        if rows <= 1:
            return self.single
        return self.few if rows <= FEW_ROWS else self.many

    def describe(self) -> str:
        """For the record, e.g. 'fp16@1 bf16@2-16 bf16@>16'."""
        return f"{self.single}@1 {self.few}@2-16 {self.many}@>16"

    @property
    def unsettled(self) -> tuple[Regime, ...]:
        """Regimes in which no arithmetic finished a pass: the machine was too busy to choose."""
        finished = {timing.regime for timing in self.timings if not timing.is_extrapolated}
        return tuple(regime for regime in self.timings_ns if regime not in finished)

    @property
    def timings_ns(self) -> dict[Regime, dict[Arithmetic, int]]:
        """Regime -> arithmetic -> measured time."""
        table: dict[Regime, dict[Arithmetic, int]] = {}
        for timing in self.timings:
            table.setdefault(timing.regime, {})[timing.arithmetic] = timing.time_ns
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChoice:
    """The INT4 path for one row, and for more than one."""

    single: Int4Path
    many: Int4Path

    @staticmethod
    def of(path: Int4Path | PathChoice) -> PathChoice:
        """A choice as it is, a path for every regime."""
        return path if isinstance(path, PathChoice) else PathChoice(single=path, many=path)

    def for_rows(self, rows: int) -> Int4Path:
        """The path for a product of this many rows."""
        return self.single if rows <= 1 else self.many

    def describe(self) -> str:
        """For the record, e.g. 'w4a16' or 'w4a16@1 w4a8@>1'."""
        if self.single == self.many:
            return self.single
        return f"{self.single}@1 {self.many}@>1"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsChoice:
    """What runs between the linears for one row, and for more than one."""

    single: OpsName
    many: OpsName

    @staticmethod
    def of(ops: OpsName | OpsChoice) -> OpsChoice:
        """A choice as it is, a name for every regime; ValueError for a name there is not."""
        if isinstance(ops, OpsChoice):
            return ops
        if ops not in get_args(OpsName):
            raise ValueError(
                f"[engine] ops must be one of {', '.join(get_args(OpsName))}, got {ops!r}"
            )
        return OpsChoice(single=ops, many=ops)

    def for_rows(self, rows: int) -> OpsName:
        """The operations for this many rows."""
        return self.single if rows <= 1 else self.many
