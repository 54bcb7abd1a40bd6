"""What a rule is: what it demands of which bundles, why, and what looks whether they keep it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgebench.record import Record, Scenario, Track

Severity = Literal["error", "warning"]

Engines = Literal["own", "external"]

MLPERF = "MLPerf inference_rules.adoc"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliesTo:
    """Which bundles a rule speaks of."""

    tracks: tuple[Track, ...] = get_args(Track)
    scenarios: tuple[Scenario, ...] = get_args(Scenario)
    engines: tuple[Engines, ...] = get_args(Engines)

    def includes(self, record: Record) -> bool:
        """Whether the rule speaks of a record's bundle."""
        is_external = any(result.kernel == "external" for result in record.results)
        return (
            record.track in self.tracks
            and record.scenario in self.scenarios
            and ("external" if is_external else "own") in self.engines
        )

    def __str__(self) -> str:
        """As the page and the command line show it."""
        parts = []
        if len(self.tracks) < len(get_args(Track)):
            parts.append(f"the {' and '.join(self.tracks)} track")
        if len(self.scenarios) < len(get_args(Scenario)):
            parts.append(f"{' and '.join(self.scenarios)}")
        if len(self.engines) < len(get_args(Engines)):
            parts.append(f"{' and '.join(self.engines)} engines")
        return ", ".join(parts) or "every bundle"


EVERY = AppliesTo()
OWN = AppliesTo(engines=("own",))
EXTERNAL = AppliesTo(engines=("external",))
CLOSED = AppliesTo(tracks=("closed",))
CLOSED_OWN = AppliesTo(tracks=("closed",), engines=("own",))
OPEN = AppliesTo(tracks=("open",))
SINGLE_STREAM = AppliesTo(scenarios=("single-stream",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the rulebook."""

    id: str
    title: str
    text: str
    why: str
    source: str
    what_to_do: str
    """When it is broken."""
    checks: tuple[str, ...]
    """Functions below `edgebench.` that apply it: `module.function`."""
    applies_to: AppliesTo = EVERY
    severity: Severity = "error"
    is_gate: bool = False
    """Rows that break it mean nothing, so no other rule is applied to them."""
