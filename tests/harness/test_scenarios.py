"""Scenario results: every published number of a handful of rows, worked out by hand."""

from __future__ import annotations

import pytest

from edgebench.errors import MeasurementInvalid
from edgebench.record import Kernel, Mode, SampleRow
from edgebench.scenarios import (
    derive,
    derive_offline,
    derive_single_stream,
    derive_speedup,
    measured_ns,
)

MS = 1_000_000


def row(
    query: int,
    issued_ms: float,
    completed_ms: float,
    *,
    kernel: Kernel = "int4",
    mode: Mode = "performance",
    block: int = 0,
    sample: int | None = None,
    first_ms: float | None = None,
    tokens: int = 1,
) -> SampleRow:
    first = completed_ms if first_ms is None else first_ms
    return SampleRow(
        kernel=kernel,
        mode=mode,
        block=block,
        query=query,
        sample=query if sample is None else sample,
        issued_ns=round(issued_ms * MS),
        first_token_ns=round(first * MS),
        completed_ns=round(completed_ms * MS),
        output_ids=[1] * tokens,
    )


def test_single_stream_by_hand() -> None:
    rows = [
        row(0, 1000, 1010, first_ms=1004, tokens=4),  # latency 10, TTFT 4, TPOT 2
        row(1, 1010, 1030, first_ms=1012, tokens=10),  # latency 20, TTFT 2, TPOT 2
        row(2, 5000, 5030, first_ms=5015, tokens=6, block=1),  # latency 30, TTFT 15, TPOT 3
        row(3, 5031, 5032, tokens=1, block=1),  # latency 1, TTFT 1, no TPOT
    ]
    result = derive_single_stream(rows, "int4")
    assert (result.samples, result.queries) == (4, 4)
    assert result.duration_s == pytest.approx(0.030 + 0.032)  # between the blocks is not ours
    assert result.latency_p50_ms == 15.0
    assert result.latency_p90_ms is None  # four queries are no p90
    assert result.latency_p90_raw_ms == 30.0
    assert result.ttft_p90_ms == 15.0
    assert result.tpot_p90_ms == 3.0
    assert result.samples_per_s == pytest.approx(4 / 0.062)
    assert result.tokens_per_s == pytest.approx(21 / 0.062)
    assert result.mean_output_tokens == 21 / 4


def test_latency_p90_is_the_early_stopping_estimate() -> None:
    # 118 queries of 1..118 ms: early stopping discards the 3 largest; raw is sorted[106].
    rows = [row(i, 1000 * i, 1000 * i + i + 1) for i in range(118)]
    result = derive_single_stream(rows, "int4")
    assert result.latency_p90_ms == 115.0
    assert result.latency_p90_raw_ms == 107.0


def test_one_token_answers_have_no_tpot_and_still_have_tokens_per_second() -> None:
    # LoadGen: TPOT of -2.2 ms and 0 tokens/s for these, and tokens per ns for others.
    rows = [row(i, 100 * i, 100 * i + 10) for i in range(3)]
    result = derive_single_stream(rows, "int4")
    assert result.tpot_p90_ms is None
    assert result.ttft_p90_ms == 10.0
    assert result.tokens_per_s == pytest.approx(3 / 0.210)


def test_latency_is_the_request_and_not_its_first_token() -> None:
    # LoadGen in token mode reports the TTFT estimate as early_stopping_latency_ss.
    rows = [row(i, 100 * i, 100 * i + 50, first_ms=100 * i + 3, tokens=9) for i in range(64)]
    result = derive_single_stream(rows, "int4")
    assert result.latency_p90_ms == result.latency_p90_raw_ms == 50.0
    assert result.ttft_p90_ms == 3.0


def test_other_kernels_and_accuracy_rows_are_ignored() -> None:
    own = [row(0, 0, 10)]
    others = [row(0, 20, 90, kernel="fp16"), row(0, 100, 900, mode="accuracy")]
    assert derive_single_stream(own + others, "int4") == derive_single_stream(own, "int4")
    assert derive_offline(own + others, "int4") == derive_offline(own, "int4")


def test_no_rows_are_no_numbers() -> None:
    for scenario in ("single-stream", "offline"):
        result = derive(scenario, [], "int4")
        assert (result.samples, result.queries, result.duration_s) == (0, 0, 0.0)
        assert result.samples_per_s is None
        assert result.tokens_per_s is None
        assert result.latency_p50_ms is None
        assert result.mean_output_tokens is None


def test_no_time_is_no_rate() -> None:
    assert derive_single_stream([row(0, 5, 5)], "int4").samples_per_s is None


def test_offline_has_throughput_over_all_rounds_and_no_latency() -> None:
    rows = [
        row(0, 1000, 1100, sample=7, tokens=3),
        row(0, 1000, 1400, sample=8, tokens=5),
        row(1, 9000, 9100, sample=9, tokens=2, block=1),
        row(1, 9000, 9050, sample=1, tokens=2, block=1),
    ]
    result = derive_offline(rows, "int4")
    assert (result.samples, result.queries) == (4, 2)
    assert result.duration_s == pytest.approx(0.5)  # 400 ms + 100 ms
    assert result.samples_per_s == pytest.approx(8.0)
    assert result.tokens_per_s == pytest.approx(24.0)
    assert result.latency_p50_ms is None
    assert result.latency_p90_ms is None
    assert result.ttft_p90_ms is None
    assert result.tpot_p90_ms is None


def test_order_of_the_file_does_not_matter() -> None:
    rows = [row(i, 100 * i, 100 * i + i + 1, tokens=i + 1, block=i // 3) for i in range(9)]
    assert derive_single_stream(rows[::-1], "int4") == derive_single_stream(rows, "int4")
    assert derive_offline(rows[::-1], "int4") == derive_offline(rows, "int4")


@pytest.mark.parametrize("times", [(10, 5, 20), (10, 25, 20), (30, 30, 20)])
def test_times_out_of_order_are_refused(times: tuple[int, int, int]) -> None:
    issued, first, completed = times
    with pytest.raises(MeasurementInvalid, match="expected issue <= first token <= completion"):
        derive_single_stream([row(0, issued, completed, first_ms=first)], "int4")


def test_measured_time_sums_the_blocks() -> None:
    rows = [row(0, 0, 5), row(1, 6, 9), row(2, 100, 101, block=1)]
    assert measured_ns(rows) == 10 * MS


def test_single_stream_speedup_pairs_queries_and_counts_blocks() -> None:
    rows = []
    for query in range(21):
        block, start = query // 3, 1000 * query
        ratio = 20 + block + 9 * (query % 3 == 2)  # tenths; the last query of a block is disturbed
        rows.append(row(query, start, start + 10 * (query + 1), block=block))
        done = start + ratio * (query + 1)
        rows.insert(0, row(query, start, done, block=block, kernel="fp16"))
    rows += [row(21, 90_000, 90_090)]  # fp16 never ran it
    speedup = derive_speedup("single-stream", rows)
    assert speedup is not None
    assert (speedup.ratio, speedup.ci95, speedup.pairs) == (2.3, (2.0, 2.6), 7)


def test_queries_of_few_blocks_give_no_interval() -> None:
    rows = [row(i, 100 * i, 100 * i + 10, block=i // 100) for i in range(500)]
    rows += [row(i, 100 * i, 100 * i + 30, block=i // 100, kernel="fp16") for i in range(500)]
    speedup = derive_speedup("single-stream", rows)
    assert speedup is not None
    assert (speedup.ratio, speedup.ci95, speedup.pairs) == (3.0, None, 5)


def test_offline_speedup_pairs_by_round() -> None:
    rows = []
    for number in range(6):
        start = 1000 * number
        for sample in range(4):
            rows.append(row(number, start, start + 10 * (sample + 1), sample=sample, block=number))
            fp16_done = start + 20 * (sample + 1) + number
            rows.append(row(number, start, fp16_done, sample=sample, block=number, kernel="fp16"))
    speedup = derive_speedup("offline", rows)  # rounds' ratios: (80 + number) / 40
    assert speedup is not None
    assert speedup.ratio == pytest.approx(82.5 / 40)
    assert speedup.ci95 == (pytest.approx(2.0), pytest.approx(85 / 40))
    assert speedup.pairs == 6


def test_no_pair_no_speedup() -> None:
    assert derive_speedup("offline", [row(0, 0, 10)]) is None
    instant = [row(0, 0, 10), row(0, 20, 20, kernel="fp16")]
    assert derive_speedup("single-stream", instant) is None


def test_a_pair_must_run_the_same_samples() -> None:
    rows = [row(3, 0, 10, sample=5), row(3, 20, 50, sample=6, kernel="fp16")]
    with pytest.raises(MeasurementInvalid, match="to run the same samples in query 3"):
        derive_speedup("single-stream", rows)
