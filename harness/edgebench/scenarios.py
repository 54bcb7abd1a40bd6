"""Scenario results: the one derivation of published numbers from sample rows.

The runner and the checker both call it. Percentiles: p90 latency is the early-stopping estimate
and needs 64 queries; `latency_p90_raw_ms`, `ttft_p90_ms` and `tpot_p90_ms` are plain percentiles.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgebench import stats
from edgebench.errors import MeasurementInvalid
from edgebench.profiles import EARLY_STOPPING_CONFIDENCE, LATENCY_PERCENTILE
from edgebench.record import Kernel, Mode, SampleRow, Scenario
from edgebench.units import NS_PER_S, ms_from_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioResult:
    """What one kernel's performance rows say. Offline has throughput only, as in MLPerf."""

    samples: int
    queries: int
    duration_s: float
    latency_p50_ms: float | None = None
    latency_p90_ms: float | None = None
    latency_p90_raw_ms: float | None = None
    ttft_p90_ms: float | None = None
    tpot_p90_ms: float | None = None
    samples_per_s: float | None
    tokens_per_s: float | None
    mean_output_tokens: float | None


def derive(scenario: Scenario, rows: Iterable[SampleRow], kernel: Kernel) -> ScenarioResult:
    """Derive one kernel's result; rows of other kernels and of accuracy mode are ignored."""
    return DERIVATIONS[scenario](rows, kernel)


def derive_single_stream(rows: Iterable[SampleRow], kernel: Kernel) -> ScenarioResult:
    """Derive latencies and rates; the duration sums first issue -> last completion per block.

    Raises MeasurementInvalid where a row's times are out of order.
    """
    own = performance_rows(rows, kernel)
    latencies_ns = [row.completed_ns - row.issued_ns for row in own]
    ttfts_ns = [stats.ttft_ns(row.issued_ns, row.first_token_ns) for row in own]
    tpots_ns = [
        tpot
        for latency, ttft, row in zip(latencies_ns, ttfts_ns, own, strict=True)
        if (tpot := stats.tpot_ns(latency, ttft, len(row.output_ids))) is not None
    ]
    estimate = stats.early_stopping_estimate_ns(
        latencies_ns, LATENCY_PERCENTILE, EARLY_STOPPING_CONFIDENCE
    )
    rates = _rates(own, queries=len(own))
    return ScenarioResult(
        samples=rates.samples,
        queries=rates.queries,
        duration_s=rates.duration_s,
        latency_p50_ms=ms_from_ns(stats.median(latencies_ns)),
        latency_p90_ms=ms_from_ns(estimate.estimate_ns if estimate else None),
        latency_p90_raw_ms=ms_from_ns(stats.percentile_raw(latencies_ns, LATENCY_PERCENTILE)),
        ttft_p90_ms=ms_from_ns(stats.percentile_raw(ttfts_ns, LATENCY_PERCENTILE)),
        tpot_p90_ms=ms_from_ns(stats.percentile_raw(tpots_ns, LATENCY_PERCENTILE)),
        samples_per_s=rates.samples_per_s,
        tokens_per_s=rates.tokens_per_s,
        mean_output_tokens=rates.mean_output_tokens,
    )


def derive_offline(rows: Iterable[SampleRow], kernel: Kernel) -> ScenarioResult:
    """Derive throughput over all rounds together: samples / sum of the rounds' durations.

    Every latency is None: inside one query of all samples it says only where a batch stood.
    Raises MeasurementInvalid where a row's times are out of order.
    """
    own = performance_rows(rows, kernel)
    return _rates(own, queries=len({row.query for row in own}))


DERIVATIONS: Mapping[Scenario, Callable[[Iterable[SampleRow], Kernel], ScenarioResult]] = {
    "single-stream": derive_single_stream,
    "offline": derive_offline,
}


def derive_speedup(
    scenario: Scenario,
    rows: Sequence[SampleRow],
    reference: Kernel = "fp16",
    candidate: Kernel = "int4",
) -> stats.Speedup | None:
    """Derive candidate over reference: block by block, a round being offline's.

    A single-stream block counts as the median of its queries' ratios. Only what both kernels ran
    counts; None where that is nothing, or something took no time at all. Raises MeasurementInvalid
    where a pair did not run the same samples.
    """
    key, unit = (_query_of, "query") if scenario == "single-stream" else (_block_of, "round")
    sides = [_grouped(performance_rows(rows, kernel), key) for kernel in (reference, candidate)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    for number in shared:
        ran = [sorted(row.sample for row in side[number]) for side in sides]
        if ran[0] != ran[1]:
            raise MeasurementInvalid(
                f"[scenarios] expected {reference} and {candidate} to run the same samples in "
                f"{unit} {number}, got different ones; give both the same schedule"
            )
    times_ns = [[span_ns(side[number]) for number in shared] for side in sides]
    if any(time_ns == 0 for side in times_ns for time_ns in side):
        return None
    if scenario == "single-stream":
        blocks = [sides[0][number][0].block for number in shared]
        return stats.paired_speedup(times_ns[0], times_ns[1], blocks)
    counts = [len(sides[0][number]) for number in shared]
    rates = [[n / t for n, t in zip(counts, side, strict=True)] for side in times_ns]
    return stats.offline_speedup(*rates)


def performance_rows(rows: Iterable[SampleRow], kernel: Kernel) -> list[SampleRow]:
    """Return one kernel's performance rows in issue order, each with its times in order."""
    own = mode_rows(rows, kernel, "performance")
    for row in own:
        if not row.issued_ns <= row.first_token_ns <= row.completed_ns:
            raise MeasurementInvalid(
                f"[scenarios] expected issue <= first token <= completion, got {row.issued_ns}, "
                f"{row.first_token_ns}, {row.completed_ns} for {kernel} query {row.query}"
            )
    return sorted(own, key=lambda row: (row.block, row.query, row.issued_ns))


def mode_rows(rows: Iterable[SampleRow], kernel: Kernel, mode: Mode) -> list[SampleRow]:
    """Return one kernel's rows of one mode, in the order given."""
    return [row for row in rows if row.kernel == kernel and row.mode == mode]


def span_ns(rows: Sequence[SampleRow]) -> int:
    """Return first issue -> last completion of rows that ran together."""
    return max(row.completed_ns for row in rows) - min(row.issued_ns for row in rows)


def measured_ns(rows: Iterable[SampleRow]) -> int:
    """Return the measured time of one kernel's rows: the spans of its blocks summed."""
    return sum(span_ns(block) for block in _grouped(rows, _block_of).values())


def _rates(rows: Sequence[SampleRow], queries: int) -> ScenarioResult:
    tokens = sum(len(row.output_ids) for row in rows)
    duration_ns = measured_ns(rows)
    return ScenarioResult(
        samples=len(rows),
        queries=queries,
        duration_s=duration_ns / NS_PER_S,
        samples_per_s=len(rows) * NS_PER_S / duration_ns if duration_ns else None,
        tokens_per_s=tokens * NS_PER_S / duration_ns if duration_ns else None,
        mean_output_tokens=tokens / len(rows) if rows else None,
    )


def _query_of(row: SampleRow) -> int:
    return row.query


def _block_of(row: SampleRow) -> int:
    return row.block


def _grouped(
    rows: Iterable[SampleRow], key: Callable[[SampleRow], int]
) -> dict[int, list[SampleRow]]:
    groups: defaultdict[int, list[SampleRow]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return dict(groups)
