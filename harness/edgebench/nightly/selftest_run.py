"""The words of `bench selftest`: what it starts, its table, its file of finished rounds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebench.codec import write_atomic
from edgebench.errors import unknown_name
from edgebench.markdown import header, row
from edgebench.nightly.arms import SELF, find_arm
from edgebench.nightly.history import HistoryRow, append_history
from edgebench.nightly.pairs import Side, probe_pair
from edgebench.nightly.selftest import (
    CELLS,
    Extra,
    Plan,
    Probe,
    Rate,
    RoundRow,
    read_rounds,
    run_selftest,
    score,
)
from edgebench.progress import Progress
from edgebench.system import system_name
from edgebench.utc import utc_now

ROUNDS = "rounds.jsonl"
TABLE = "selftest.md"
COLUMNS = ("planted", "called", "of", "rate", "one-sided 95 % bounds", "pairs on average")
MEANS: Mapping[str, str] = {
    "none": "nothing: a false alarm",
    "variance": "±10 % at random, no more on average: a false alarm",
    "bad night": "a third of all processes 25 % slower: a false alarm",
    "creep": "1 % more a night for 10 nights: found in the history",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestOptions:
    """What was typed."""

    out: Path
    aa: int
    planted: int
    bad_nights: int
    creeps: int
    seed: int
    limit: float
    threads: int | None = None
    history: Path | None = None


def selftest_command(options: SelftestOptions, *, form: str, progress: Progress) -> str:
    """Run what is missing of the plan and return the table; rows go to `out`."""
    if form not in FORMATS:
        raise unknown_name("selftest", "format", form, FORMATS)
    plan = Plan(
        aa=options.aa,
        planted=options.planted,
        bad_nights=options.bad_nights,
        creeps=options.creeps,
        seed=options.seed,
        limit_percent=options.limit,
    )
    names = [cell.name for cell in CELLS]
    kept, probe = options.out / ROUNDS, fresh_probe(options.threads)
    had = _count(kept)
    try:
        rows = run_selftest(plan, names, probe, kept, progress)
    finally:  # what an interrupted self-test saw of nothing is kept too
        if options.history is not None and (fresh := aa_rows(read_rounds(kept)[had:])):
            append_history(options.history, fresh)
    rates = score(rows)
    write_atomic(options.out / TABLE, (markdown(rates, rows) + "\n").encode())
    return FORMATS[form](rates, rows)


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def fresh_probe(threads: int | None) -> Probe:
    """Return a probe of pairs of this version; the first process's counts of calls serve all."""
    arm, calls = find_arm(SELF), dict[str, int]()

    def probe(is_head_first: bool, baseline: Extra, head: Extra) -> Mapping[str, float]:
        return probe_pair(
            Side(arm=arm, extra=baseline),
            Side(arm=arm, extra=head),
            [cell for cell in CELLS if cell.name in head],
            is_head_first=is_head_first,
            calls=calls,
            threads=threads,
        )

    return probe


def aa_rows(rows: Sequence[RoundRow]) -> list[HistoryRow]:
    """Return the A/A rounds as lines of a nightly history: what this device sees of nothing."""
    system, now = system_name(), utc_now()
    return [
        HistoryRow(
            kind="aa",
            night_utc=now,
            suite="selftest",
            system=system,
            cell=row.cell,
            baseline=SELF,
            head=SELF,
            change_percent=row.change_percent,
            interval_percent=None,
            pairs=row.pairs,
            limit_percent=row.limit_percent,
            state="no change" if row.verdict == "SAME" else "unsure",
        )
        for row in rows
        if row.kind == "aa"
    ]


def markdown(rates: Sequence[Rate], rows: Sequence[RoundRow]) -> str:
    """Return the table of rates."""
    limit = rows[0].limit_percent if rows else 0.0
    lines = [
        f"Smallest change that counts: {limit:g} %; {len(rows)} comparisons.",
        "",
        *header(COLUMNS),
    ]
    for rate in rates:
        meaning = MEANS.get(rate.plant, rate.plant)
        share = f"{100 * rate.called / rate.of:.1f} %"
        bounds = f"≥ {100 * rate.lower:.1f} %, ≤ {100 * rate.upper:.1f} %"
        counts = f"{rate.called}", f"{rate.of}"
        lines.append(row((meaning, *counts, share, bounds, f"{rate.mean_pairs:.0f}")))
    return "\n".join(lines)


def as_json(rates: Sequence[Rate], rows: Sequence[RoundRow]) -> str:
    """Return the rates for other programs."""
    found = [
        {
            "plant": rate.plant,
            "called": rate.called,
            "of": rate.of,
            "lower_bound": rate.lower,
            "upper_bound": rate.upper,
            "mean_pairs": rate.mean_pairs,
        }
        for rate in rates
    ]
    return json.dumps(found, indent=2)


FORMATS: Mapping[str, Callable[[Sequence[Rate], Sequence[RoundRow]], str]] = {
    "md": markdown,
    "json": as_json,
}
