"""Duration: enough was measured, by the clock of the samples."""

from __future__ import annotations

from collections.abc import Iterator

from edgebench.checker.subject import Subject
from edgebench.findings import Finding, finding
from edgebench.profiles import (
    MIN_PAIRED_BLOCKS,
    MIN_QUERIES_FOR_P90,
    PROFILES,
    SHORT_BLOCK_S,
    stamps_of,
)
from edgebench.record import Kernel, SampleRow
from edgebench.scenarios import measured_ns, span_ns
from edgebench.units import NS_PER_S


def check_duration(subject: Subject) -> Iterator[Finding]:
    """D-01: each kernel's own blocks add up to the minimum."""
    minimum_s = subject.counts.min_duration_s
    for kernel in subject.kernels:
        came_s = measured_ns(subject.rows(kernel, "performance")) / NS_PER_S
        if came_s < minimum_s:
            yield finding("D-01", f"{kernel} to run {minimum_s:g} s", f"{came_s:.2f} s")


def check_counts(subject: Subject) -> Iterator[Finding]:
    """D-02, N-03: enough queries, and enough distinct samples in every round."""
    counts, scenario = subject.counts, subject.bundle.record.scenario
    for kernel in subject.kernels:
        rounds: dict[int, set[int]] = {}
        for row in subject.rows(kernel, "performance"):
            rounds.setdefault(row.query, set()).add(row.sample)
        if len(rounds) < counts.min_queries:
            yield finding("D-02", f"{counts.min_queries} queries of {kernel}", len(rounds))
        if scenario == "single-stream" and len(rounds) < MIN_QUERIES_FOR_P90:
            yield finding("N-03", f"{MIN_QUERIES_FOR_P90} queries for a p90", len(rounds))
        if scenario == "offline":
            each = counts.samples_per_round or subject.workload.scored_count
            fewest = min((len(samples) for samples in rounds.values()), default=0)
            if fewest < each:
                yield finding("D-02", f"{each} distinct samples in a round of {kernel}", fewest)


def check_blocks(subject: Subject) -> Iterator[Finding]:
    """D-03: in every block at least one kernel runs the minimum; single-stream's last may not."""
    record = subject.bundle.record
    is_metered = any(result.energy.joules is not None for result in record.results)
    is_short = record.scenario == "single-stream" and not subject.counts.blocks_each_last(
        is_metered=is_metered
    )
    minimum_s = SHORT_BLOCK_S if is_short else PROFILES[record.profile].min_block_s
    longest: dict[int, float] = {}
    for kernel in subject.kernels:
        for block, span_s in _block_spans_s(subject, kernel).items():
            longest[block] = max(longest.get(block, 0.0), span_s)
    if record.scenario == "single-stream":
        longest.pop(max(longest, default=0), None)
    short = [block for block, span_s in longest.items() if span_s < minimum_s]
    if short:
        came = f"{len(short)} shorter, such as block {short[0]} of {longest[short[0]]:.2f} s"
        yield finding("D-03", f"blocks of {minimum_s:g} s", came)


def check_pairs_of_blocks(subject: Subject) -> Iterator[Finding]:
    """N-05: single-stream kernels took turns often enough."""
    if len(subject.kernels) < 2:
        return
    ran = [{row.block for row in subject.rows(own, "performance")} for own in subject.kernels]
    shared = set.intersection(*ran)
    if len(shared) < MIN_PAIRED_BLOCKS:
        yield finding("N-05", f"{MIN_PAIRED_BLOCKS} pairs of blocks", len(shared))


def _block_spans_s(subject: Subject, kernel: Kernel) -> dict[int, float]:
    blocks: dict[int, list[SampleRow]] = {}
    for row in subject.rows(kernel, "performance"):
        blocks.setdefault(row.block, []).append(row)
    return {block: span_ns(rows) / NS_PER_S for block, rows in blocks.items()}


def check_stamps(subject: Subject) -> Iterator[Finding]:
    """D-04: the stamps are exactly the profile's, an external engine's and a simulation's."""
    record = subject.bundle.record
    expected = stamps_of(
        record.profile,
        is_external=subject.is_external,
        is_simulated=record.host.simulated,
    )
    if sorted(record.stamps) != sorted(expected):
        came = ", ".join(record.stamps) or "none"
        yield finding("D-04", f"the stamps: {', '.join(expected) or 'none'}", came)


def check_alone(subject: Subject) -> Iterator[Finding]:
    """D-09: no other run shared the machine."""
    if subject.bundle.record.host.other_runs_seen:
        yield finding("D-09", "a machine without other EdgeBench runs", "another run at the time")
