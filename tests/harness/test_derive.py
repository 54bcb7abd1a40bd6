"""Published numbers from rows small enough to work out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from edgebench.answers import AnswerKey
from edgebench.derive import (
    CaseFacts,
    KernelFacts,
    block_windows,
    call_nll,
    derive_ceilings,
    derive_results,
    length_ratio,
    passes_gate,
    score,
    scored_outputs,
)
from edgebench.record import CeilingRow, Energy, Kernel, KernelResult, NllRow, SampleRow
from edgebench.roofline import Executed, Model, Work, model_of, place, work_of

MS = 1_000_000
MODEL = Model(body_weights=900, head_weights=100)
EOS = 2


def row(kernel: Kernel, query: int, start_ms: int, latency_ms: int, **changes: Any) -> SampleRow:
    """A query whose first token takes half the latency, answered with three tokens."""
    facts: dict[str, Any] = {
        "kernel": kernel,
        "mode": "performance",
        "block": 0,
        "query": query,
        "sample": query % 4,
        "issued_ns": start_ms * MS,
        "first_token_ns": (start_ms + latency_ms // 2) * MS,
        "completed_ns": (start_ms + latency_ms) * MS,
        "output_ids": [7, 7, EOS],
    }
    return SampleRow(**{**facts, **changes})


def stream(count: int) -> list[SampleRow]:
    """fp16 in 40 ms and INT4 in 10 ms a query, one kernel after the other."""
    fp16 = [row("fp16", query, 40 * query, 40) for query in range(count)]
    start = 40 * count
    return fp16 + [row("int4", query, start + 10 * query, 10) for query in range(count)]


def case(**changes: Any) -> CaseFacts:
    facts: dict[str, Any] = {
        "track": "closed",
        "workload": "tiny@2x",
        "scenario": "single-stream",
        "profile": "quick",
        "scored_count": 4,
        "prompt_tokens": [5, 5, 5, 5],
        "model": MODEL,
        "last_level_cache_bytes": 100,
    }
    return CaseFacts(**{**facts, **changes})


def facts(kernel: Kernel, **changes: Any) -> KernelFacts:
    values: dict[str, Any] = {
        "kernel": kernel,
        "executed_path": "test",
        "transform": "none" if kernel == "fp16" else "rtn",
        "batch_size": 1,
        "weight_bytes": 2000 if kernel == "fp16" else 500,
        "peak_memory_bytes": None,
        "arithmetic": "fp32" if kernel == "fp16" else "int8",
        "energy": Energy(status="unmeasured", reason="none here"),
    }
    return KernelFacts(**{**values, **changes})


def ceilings(**values: float) -> list[CeilingRow]:
    return [
        CeilingRow(ceiling=name, instruction="best", threads=1, taken_ns=i, value=value)  # type: ignore[arg-type]
        for name, value in values.items()
        for i in range(5)
    ]


def results(rows: Sequence[SampleRow], **options: Any) -> dict[str, KernelResult]:
    found = derive_results(
        options.pop("case", case()),
        options.pop("kernels", (facts("fp16"), facts("int4"))),
        samples=rows,
        nll=options.pop("nll", []),
        ceilings=options.pop("ceilings", ceilings(read_bandwidth=1e6, int8=2e6, fp32=1e6)),
        is_right=options.pop("is_right", lambda sample, ids: True),
    )
    assert not options
    return {result.kernel: result for result in found}


def test_a_whole_single_stream_result() -> None:
    found = results(stream(128))
    fp16, int4 = found["fp16"], found["int4"]
    assert (fp16.samples, fp16.queries, fp16.duration_s) == (128, 128, 5.12)
    assert (fp16.latency_p50_ms, fp16.latency_p90_ms, int4.latency_p90_ms) == (40.0, 40.0, 10.0)
    assert (fp16.ttft_p90_ms, fp16.tpot_p90_ms) == (20.0, 10.0)
    assert (int4.samples_per_s, int4.tokens_per_s) == (100.0, 300.0)
    assert (fp16.speedup, fp16.speedup_ci95) == (None, None)
    assert (int4.speedup, int4.speedup_ci95) == (4.0, None)  # of one pair of blocks
    assert (int4.accuracy, int4.accuracy_ratio, int4.accuracy_passed) == (1.0, 1.0, True)
    assert (int4.valid, int4.invalid_reasons, int4.warnings) == (True, [], [])
    assert int4.mean_output_tokens == 3.0


def test_the_single_stream_roofline_by_hand() -> None:
    found = results(stream(128))
    fp16, int4 = found["fp16"].roofline, found["int4"].roofline
    # TPOT (40 - 20) / 2 = 10 ms for 2,000 bytes: 200 kB/s of 1 MB/s.
    assert fp16.percent_of_bandwidth == pytest.approx(20.0)
    # A sample runs the body 5 + 3 - 1 = 7 times and the head 3: 2 (6300 + 300) = 13,200 in 40 ms.
    assert fp16.percent_of_compute == pytest.approx(33.0)
    # 500 bytes in 2.5 ms are 200 kB/s; 13,200 operations in 10 ms are 1.32 M/s.
    assert int4.percent_of_bandwidth == pytest.approx(20.0)
    assert int4.percent_of_compute == pytest.approx(66.0)
    assert (int4.bytes_per_token, int4.operations_per_token) == (500.0, 2000.0)
    assert (fp16.compute_ceiling, int4.compute_ceiling) == ("fp32", "int8")


def test_a_result_over_the_ceiling_is_invalid_and_a_little_over_warns() -> None:
    slower = ceilings(read_bandwidth=1e6, int8=1e6, fp32=1e6)
    int4 = results(stream(128), ceilings=slower)["int4"]
    assert not int4.valid
    assert int4.invalid_reasons == ["R-03: 132.0 % of compute's highest repeat > 115 %"]
    faster = ceilings(read_bandwidth=1e6, int8=1.2e6, fp32=1e6)
    int4 = results(stream(128), ceilings=faster)["int4"]
    assert int4.valid
    assert int4.warnings == ["R-04: 110.0 % of compute is at the ceiling"]


def test_a_ceiling_that_moved_warns_and_invalidates_only_past_its_highest() -> None:
    moved = ceilings(read_bandwidth=1e6, int8=1e6, fp32=1e6)
    once = moved[5].model_copy(update={"value": 1.4e6})
    assert once.ceiling == "int8"
    int4 = results(stream(128), ceilings=[*moved, once])["int4"]
    assert int4.valid
    assert int4.roofline.percent_of_compute == pytest.approx(132.0)
    assert int4.warnings == ["R-04: 132.0 % of compute is at the ceiling"]
    too_little = once.model_copy(update={"value": 1.1e6})
    int4 = results(stream(128), ceilings=[*moved, too_little])["int4"]
    assert int4.invalid_reasons == ["R-03: 120.0 % of compute's highest repeat > 115 %"]


def test_the_offline_roofline_shares_the_weights_in_a_batch() -> None:
    rows = [
        row(kernel, r, 0, 100, block=r, sample=sample, issued_ns=(200 * r + shift) * MS,
            first_token_ns=(200 * r + shift + 50) * MS, completed_ns=(200 * r + shift + 100) * MS)
        for kernel, shift in (("fp16", 0), ("int4", 100))
        for r in range(6)
        for sample in range(4)
    ]  # fmt: skip
    kernels = (facts("fp16", batch_size=4), facts("int4", batch_size=4))
    found = results(rows, case=case(scenario="offline"), kernels=kernels)
    fp16 = found["fp16"]
    assert (fp16.samples, fp16.queries, fp16.duration_s) == (24, 6, 0.6)
    assert (fp16.samples_per_s, fp16.tokens_per_s) == (40.0, 120.0)
    assert fp16.latency_p50_ms is None
    # 2,000 / 4 bytes a token, 120 tokens/s, of 1 MB/s; 13,200 operations, 40 samples/s, of 1 M/s.
    assert fp16.roofline.percent_of_bandwidth == pytest.approx(6.0)
    assert fp16.roofline.percent_of_compute == pytest.approx(52.8)
    assert found["int4"].speedup == 1.0


@pytest.mark.parametrize(
    ("executed", "given", "reason"),
    [
        ({"last_level_cache_bytes": None}, {}, "cache is unknown"),
        ({"weight_bytes": 400}, {}, "fit in 4x the last-level cache"),
        ({}, {"int8": 1.0}, "no ceiling was measured"),
        ({}, {"read_bandwidth": 1.0}, "no int8 ceiling was measured"),
        ({"arithmetic": None}, {"read_bandwidth": 1.0}, "has no ceiling"),
    ],
)
def test_a_missing_percentage_says_why(
    executed: dict[str, Any], given: dict[str, float], reason: str
) -> None:
    ran = {"weight_bytes": 401, "batch_size": 1, "arithmetic": "int8"}
    work = Work(operations=9, operations_per_token=1, duration_s=1.0, seconds_per_token=0.1)
    found = place(work, Executed(**{**ran, "last_level_cache_bytes": 100, **executed}), given)
    assert found.reason is not None
    assert reason in found.reason
    assert None in (found.percent_of_bandwidth, found.percent_of_compute)


def test_one_token_answers_have_no_place_under_the_bandwidth() -> None:
    rows = [row("fp16", 0, 0, 40, output_ids=[EOS])]
    work = work_of("single-stream", rows, [5], MODEL)
    assert work.seconds_per_token is None
    # The prompt runs the body 5 times and the head once.
    assert work.operations == 2 * (900 * 5 + 100)


def test_the_head_is_told_from_the_body() -> None:
    shapes = {"lm_head.weight": (4, 2), "model.layers.0.mlp.up_proj.weight": (3, 2)}
    assert model_of(shapes) == Model(body_weights=6, head_weights=8)
    assert (
        model_of({name.removesuffix(".weight"): s for name, s in shapes.items()}).head_weights == 8
    )


def test_an_accuracy_run_takes_precedence_and_a_sample_counts_once() -> None:
    rows = stream(8)
    assert scored_outputs(rows, "int4") == dict.fromkeys(range(4), (7, 7, EOS))
    rows.append(row("int4", 0, 9_000, 10, mode="accuracy", sample=3, output_ids=[9, EOS]))
    assert scored_outputs(rows, "int4") == {3: (9, EOS)}
    assert len(scored_outputs(rows, "fp16")) == 4


def test_the_gate_counts_against_this_runs_reference() -> None:
    def is_right(sample: int, ids: Sequence[int]) -> bool:
        return sample != 0 or len(ids) == 4

    rows = [
        item.model_copy(update={"output_ids": [7, 7, 7, EOS]})
        if item.kernel == "fp16" and item.sample == 0
        else item
        for item in stream(128)
    ]
    found = results(rows, is_right=is_right)
    assert (found["fp16"].accuracy, found["int4"].accuracy) == (1.0, 0.75)
    assert found["int4"].accuracy_ratio == 0.75
    assert found["int4"].accuracy_passed is False
    assert found["fp16"].accuracy_passed is True


def test_without_a_right_reference_there_is_no_ratio() -> None:
    int4 = results(stream(128), is_right=lambda sample, ids: False)["int4"]
    assert (int4.accuracy, int4.accuracy_ratio, int4.accuracy_passed) == (0.0, None, False)


@pytest.mark.parametrize(
    ("track", "ratio", "length", "expected"),
    [
        ("closed", 0.99, 1.0, True),
        ("closed", 0.9899, 1.0, False),
        ("closed", 1.2, 1.0, True),
        ("closed", 1.0, 0.90, True),
        ("closed", 1.0, 0.89, False),
        ("closed", 1.0, 1.11, False),
        ("closed", None, 1.0, False),
        ("open", 0.1, 0.1, None),
    ],
)
def test_the_gate(track: Any, ratio: float | None, length: float, expected: bool | None) -> None:
    assert passes_gate(track, ratio, length) is expected


def test_the_length_is_compared_on_shared_samples() -> None:
    rows = stream(4)
    rows += [row("fp16", 4, 900, 5, sample=9, output_ids=[1] * 50)]
    own = [score(rows, kernel, lambda sample, ids: True) for kernel in ("int4", "fp16")]
    assert length_ratio(own[0], own[1]) == 1.0


def test_nll_is_per_token_not_per_call() -> None:
    rows = [
        NllRow(kernel="int4", sample=0, nll_nats=1.0, tokens=1),
        NllRow(kernel="int4", sample=1, nll_nats=2.0, tokens=9),
        NllRow(kernel="fp16", sample=0, nll_nats=9.0, tokens=1),
    ]
    assert call_nll(rows, "int4") == pytest.approx(0.3)
    assert call_nll([], "int4") is None


def test_a_ceiling_is_the_median_of_its_repeats() -> None:
    rows = ceilings(int8=10.0)
    rows[0] = rows[0].model_copy(update={"value": 1000.0})
    [found] = derive_ceilings(rows)
    assert (found.ceiling, found.median, found.repeats, found.instruction) == (
        "int8",
        10.0,
        5,
        "best",
    )


def test_too_short_a_run_is_invalid_by_its_own_profile() -> None:
    found = results(stream(60))["fp16"]
    assert [text[:4] for text in found.invalid_reasons] == ["D-02"]
    assert [text[:4] for text in found.warnings] == ["N-03"]
    assert found.latency_p90_ms is None
    standard = results(stream(128), case=case(profile="standard"))["fp16"]
    assert [text[:4] for text in standard.invalid_reasons] == ["D-01", "D-02"]


def test_reasons_that_rows_do_not_show_are_kept() -> None:
    throttled = facts("int4", invalid_reasons=("throttled",), warnings=("meter gone",))
    quick = ceilings(read_bandwidth=1e6, int8=1e7, fp32=1e6)
    int4 = results(stream(128), kernels=(facts("fp16"), throttled), ceilings=quick)["int4"]
    assert (int4.valid, int4.invalid_reasons, int4.warnings) == (
        False,
        ["throttled"],
        ["meter gone"],
    )


def test_windows_are_a_kernels_own_blocks() -> None:
    rows = [row("fp16", 0, 0, 4), row("fp16", 1, 5, 4), row("int4", 0, 10, 1)]
    rows.append(row("fp16", 2, 20, 4, block=1))
    assert block_windows(rows, "fp16") == [(0, 9 * MS), (20 * MS, 24 * MS)]


class Letters:
    """Decodes id i as the letter i; counts its calls."""

    calls = 0

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        assert not skip_special_tokens
        self.calls += 1
        return "".join(chr(97 + i) for i in ids)


def test_an_answer_must_end_and_is_decoded_once() -> None:
    decoder = Letters()
    key = AnswerKey(decoder=decoder, eos_id=EOS, expected=["ab"], is_correct=str.__eq__)
    assert key.is_right(0, [0, 1, EOS])
    assert not key.is_right(0, [0, 1])
    assert not key.is_right(0, [0, 1, EOS, EOS])
    assert not key.is_right(0, [])
    calls = decoder.calls
    assert key.is_right(0, (0, 1, EOS))
    assert decoder.calls == calls
