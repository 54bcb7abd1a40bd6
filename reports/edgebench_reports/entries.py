"""Leaderboard entries: one per (bundle, kernel), ranked only against what is comparable."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from edgebench import layout
from edgebench.profiles import EXTERNAL
from edgebench.record import Ceiling, KernelResult, Record, Scenario
from edgebench_reports.evidence import Evidence
from edgebench_reports.power_mode import power_mode

SCENARIOS: tuple[Scenario, ...] = ("single-stream", "offline")

Group = tuple[str, str, str, str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One bundle that the checker accepts."""

    record: Record
    system: Mapping[str, JsonValue] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    """What the checker says of it without refusing it."""
    evidence: Evidence = field(default_factory=Evidence, repr=False)
    """What its page draws of the raw rows."""

    @property
    def anchor(self) -> str:
        """Where a page describes the run: the same for the same bundle, whatever else is shown."""
        place = "/".join(layout.parts(self.record))
        return f"run-{hashlib.sha256(place.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One kernel of one bundle; rank is None for the reference and for what may not be ranked."""

    submission: Submission
    result: KernelResult
    rank: int | None = None

    @property
    def record(self) -> Record:
        """The record that the result stands in."""
        return self.submission.record

    @property
    def group(self) -> Group:
        """What must be equal for two entries to be ranked together."""
        record = self.record
        return (
            record.track,
            record.workload.name,
            record.scenario,
            record.profile,
            record.host.device,
            EXTERNAL if record.external else "",
            power_mode(self.submission.system),
        )

    @property
    def reference(self) -> KernelResult | None:
        """The fp16 result of the same run."""
        return next((r for r in self.record.results if r.kernel == "fp16"), None)

    @property
    def open_transform(self) -> str:
        """What was done to an open model; empty for any other and for a reference."""
        is_open = self.record.track == "open" and self.result.kernel not in ("fp16", EXTERNAL)
        return self.result.transform if is_open else ""

    def ceiling(self, name: str) -> Ceiling | None:
        """Return one ceiling measured in this run."""
        return next((c for c in self.record.ceilings if c.ceiling == name), None)


def verdict(entry: Entry) -> str:
    """Say in words whether an entry counts; only `valid` ones are ranked."""
    result = entry.result
    if not result.valid:
        return "INVALID"
    if any("SIMULATED" in stamp.upper() for stamp in entry.record.stamps):
        return "simulated"
    if result.kernel == "fp16":
        return "reference"
    if result.accuracy is None:
        return "no accuracy"
    if result.accuracy_passed is False or (
        entry.record.track == "closed" and result.accuracy_passed is None
    ):
        return "accuracy missed"
    return "valid"


def _slowness(entry: Entry) -> float:
    """The ranking's figure, smaller is better: p90 latency, or seconds per sample offline."""
    if entry.record.scenario == "single-stream":
        latency = entry.result.latency_p90_ms
        return math.inf if latency is None else latency
    rate = entry.result.samples_per_s
    return 1.0 / rate if rate else math.inf


def _may_rank(entry: Entry) -> bool:
    return verdict(entry) == "valid" and math.isfinite(_slowness(entry))


def rank_entries(submissions: Iterable[Submission]) -> list[Entry]:
    """Return every entry, group by group: the ranked ones first, then the rest, fastest first."""
    groups: dict[Group, list[Entry]] = defaultdict(list)
    for submission in submissions:
        for result in submission.record.results:
            entry = Entry(submission=submission, result=result)
            groups[entry.group].append(entry)
    ranked: list[Entry] = []
    for group in sorted(groups):
        own = sorted(groups[group], key=lambda e: (_slowness(e), e.submission.anchor))
        worthy = [entry for entry in own if _may_rank(entry)]
        ranked += [replace(entry, rank=place) for place, entry in enumerate(worthy, start=1)]
        ranked += [entry for entry in own if not _may_rank(entry)]
    return ranked


def disclosures(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Return (workload, what is artificial about it), each text once."""
    found = {(e.record.workload.name, e.record.workload.disclosure) for e in entries}
    return sorted((name, text) for name, text in found if text)
