"""Structure, numbers, duration, roofline and power: the smallest bundle that breaks each rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgebench.conditions_verdict import judge
from edgebench.derive import block_windows
from edgebench.energy_metrics import energy_metrics
from edgebench.interleave import KERNELS
from edgebench.meters.integrate import Source, integrate
from edgebench.record import Conditions, Energy, SampleRow
from tests.harness.checker.conftest import MS, Maker
from tests.harness.checker.edits import (
    Case,
    Edit,
    add_accuracy,
    assert_found,
    case_id,
    edit_record,
    edit_result,
    rows,
)

COST = {"parameters": 1, "macs": 1, "model_bytes": 1, "peak_activation_bytes": 1}
"""Of a workload of text, which has none."""


def two_fp16(maker: Maker) -> None:
    maker.record["results"].append(maker.result("fp16"))


def invalid_without_reason(maker: Maker) -> None:
    maker.result("int4")["valid"] = False


def forgotten_warning(maker: Maker) -> None:
    for row in maker.ceilings:
        if row["ceiling"] == "int8":
            row["value"] = 7.6e6  # int4 runs at 107 % of it
    maker.derive()
    maker.result("int4")["warnings"] = []


def too_few_for_p90(maker: Maker) -> None:
    maker.samples = [row for row in maker.samples if row["query"] < 60]
    maker.derive()


def short_standard(maker: Maker) -> None:
    maker.record["profile"] = "standard"
    add_accuracy(maker)
    maker.derive()


def fewer_queries(maker: Maker) -> None:
    maker.samples = [row for row in maker.samples if row["query"] < 100]
    maker.derive()


def few_turns(maker: Maker) -> None:
    maker.samples = [row for row in maker.samples if row["block"] < 5]
    maker.derive()


def hasten_block_0(maker: Maker, times: int) -> None:
    for row in maker.samples:
        if row["block"] == 0:
            for name in ("issued_ns", "first_token_ns", "completed_ns"):
                row[name] //= times
    maker.derive()


def short_block(maker: Maker) -> None:
    """0.32 s at most."""
    hasten_block_0(maker, 8)


def short_for_a_meter(maker: Maker) -> None:
    """0.64 s at most."""
    metered(maker)
    hasten_block_0(maker, 4)


def first_token_late(maker: Maker) -> None:
    maker.samples[0]["first_token_ns"] = maker.samples[0]["completed_ns"] + 1


def overlapping_queries(maker: Maker) -> None:
    maker.samples[1]["issued_ns"] = maker.samples[0]["completed_ns"] - 1
    maker.derive()


def overlapping_blocks(maker: Maker) -> None:
    last = rows(maker, "fp16")[63]
    last["completed_ns"] += 20 * MS
    maker.derive()


def other_sample(maker: Maker) -> None:
    rows(maker, "int4")[0]["sample"] = rows(maker, "int4")[1]["sample"]


def always_reference_first(maker: Maker) -> None:
    """Swap the blocks numbered 1 in time."""
    late = [row for row in maker.samples if row["block"] == 1]
    spans = {k: [r for r in late if r["kernel"] == k] for k in KERNELS}
    start = spans["int4"][0]["issued_ns"]
    for kernel in KERNELS:
        shift = start - spans[kernel][0]["issued_ns"]
        for row in spans[kernel]:
            for name in ("issued_ns", "first_token_ns", "completed_ns"):
                row[name] += shift
        start = spans[kernel][-1]["completed_ns"] + MS
    maker.derive()


def row_twice(maker: Maker) -> None:
    maker.samples.append(maker.samples[0])


def sample_from_outside(maker: Maker) -> None:
    maker.samples[0]["sample"] = 64


def other_order(maker: Maker) -> None:
    for kernel in KERNELS:
        own = rows(maker, kernel)
        for name in ("sample", "output_ids"):
            own[0][name], own[1][name] = own[1][name], own[0][name]
    maker.derive()


def one_sample_favoured(maker: Maker) -> None:
    """Sample b stands for sample a once: 3 and 1 times, where 2 and 2 are due."""
    for kernel in KERNELS:
        own = rows(maker, kernel)
        own[0].update({name: own[1][name] for name in ("sample", "output_ids")})
    maker.derive()


def few_repeats(maker: Maker) -> None:
    own = [row for row in maker.ceilings if row["ceiling"] == "int8"]
    for row in own[1:-3]:
        maker.ceilings.remove(row)
    maker.derive()


def repeats_at_once(maker: Maker) -> None:
    for row in maker.ceilings:
        row["taken_ns"] = 1_000
    maker.derive()


def two_instructions(maker: Maker) -> None:
    maker.ceilings[-1]["instruction"] = "slower"
    maker.derive()


def no_int8_ceiling(maker: Maker) -> None:
    maker.ceilings = [row for row in maker.ceilings if row["ceiling"] != "int8"]
    maker.derive()


def ceiling_of_int8(value: float) -> Edit:
    def edit(maker: Maker) -> None:
        for row in maker.ceilings:
            if row["ceiling"] == "int8":
                row["value"] = value
        maker.derive()

    return edit


def heavy_weights(maker: Maker) -> None:
    maker.derive(weight_bytes=100_000)


def metered(maker: Maker) -> None:
    """A package that draws 10 W throughout."""
    stop = max(row["completed_ns"] for row in maker.samples) + 200 * MS
    lines = [maker.power, "0,rapl,package-0,period,0.1,s\n"]
    lines += [f"{t},rapl,package-0,power,10000000,uW\n" for t in range(0, stop, 100 * MS)]
    maker.power = "".join(lines)
    maker.derive()


def edited_joules(maker: Maker) -> None:
    metered(maker)
    maker.result("int4")["energy"]["joules"] /= 2


def metered_twice(maker: Maker) -> None:
    """A second meter of the same package that sees 13 W, recorded with its warning."""
    metered(maker)
    second = [line.replace("package-0", "package-9") for line in maker.power.splitlines()[1:]]
    maker.power += "".join(f"{line.replace(',10000000,', ',13000000,')}\n" for line in second)
    path = maker.root / "two.csv"
    path.write_text(maker.power)
    samples = [SampleRow(**row) for row in maker.samples]
    for kernel in KERNELS:
        result, windows = maker.result(kernel), block_windows(samples, kernel)  # type: ignore[arg-type]
        both = [
            integrate(path, windows, source=Source(meter="rapl", domain=name, covers="package"))
            for name in ("package-0", "package-9")
        ]
        result["energy"], *result["energy_beside"] = (one.model_dump() for one in both)
        result["warnings"].append("P-03: rapl package-9 saw 13 W")


def with_metrics(**changes: float) -> Edit:
    """A measured package with what its energy bought, some of it changed."""

    def edit(maker: Maker) -> None:
        metered(maker)
        path = maker.root / "power.csv"
        path.write_text(maker.power)
        samples = [SampleRow(**row) for row in maker.samples]
        for kernel in KERNELS:
            result = maker.result(kernel)
            found = energy_metrics(
                maker.record["scenario"],
                [row for row in samples if row.kernel == kernel],
                maker.workload.prompt_tokens,
                Energy(**result["energy"]),
                path,
            )
            assert found is not None
            result["energy_metrics"] = found.model_dump()
        maker.result("int4")["energy_metrics"].update(changes)

    return edit


def work_while_idle(maker: Maker) -> None:
    first = min(row["issued_ns"] for row in maker.samples)
    maker.record["idle_windows"] = [[0, first], [first, first + MS]]


def watched(*, track: str = "closed", **seen: Any) -> Edit:
    """A run whose conditions were seen, judged in the record as the runner would."""

    def edit(maker: Maker) -> None:
        maker.workload = replace(maker.workload, closed_only=False)
        maker.record["track"] = track
        conditions = Conditions(period_s=0.5, readings=9, covers_part=False, sees_throttling=True)
        conditions = conditions.model_copy(update=seen)
        judgement = judge(conditions, maker.record["track"])
        maker.record["conditions"] = conditions.model_dump()
        maker.derive(invalid_reasons=judgement.invalid_reasons, warnings=judgement.warnings)

    return edit


def throttled_and_silent(maker: Maker) -> None:
    watched(held_back={"HW thermal slowdown": 0.5})(maker)
    maker.derive(invalid_reasons=(), warnings=())


def sustained_by_hand(maker: Maker) -> None:
    rates = {"cold_samples_per_s": 9.0, "sustained_samples_per_s": 9.0, "ratio": 1.0}
    maker.result("int4")["sustained"] = rates


def energy(**changes: Any) -> Edit:
    return lambda maker: maker.result("int4")["energy"].update(changes)


CASES: tuple[Case, ...] = (
    ("S-02", lambda m: m.system.update(name="other"), {"S-02", "S-07"}),
    ("S-02", lambda m: m.record["host"].update(last_level_cache_bytes=10**9),
     {"S-02", "R-02", "S-07"}),
    ("S-06", two_fp16, {"S-06", "S-07"}),
    ("S-07", invalid_without_reason, {"S-07"}),
    ("S-07", forgotten_warning, {"S-07", "R-04"}),
    ("N-01", edit_result("int4", latency_p50_ms=9.0), {"N-01", "S-07"}),
    ("N-01", edit_result("fp16", samples_per_s=1e9), {"N-01", "S-07"}),
    ("N-01", edit_result("int4", latency_p90_ms=None), {"N-01", "S-07"}),
    ("N-02", edit_result("int4", speedup=5.0), {"N-02", "S-07"}),
    ("N-02", edit_result("int4", speedup_ci95=[4.0, 4.1]), {"N-02", "S-07"}),
    ("N-04", edit_result("int4", cost=COST), {"N-04", "S-07"}),
    ("N-03", too_few_for_p90, {"N-03", "N-05", "D-02"}),
    ("N-05", few_turns, {"N-05"}),
    ("D-01", short_standard, {"D-01", "D-02"}),
    ("D-02", fewer_queries, {"D-02", "N-05"}),
    ("D-03", short_block, {"D-03"}),
    ("D-03", short_for_a_meter, {"D-03"}),
    ("D-04", edit_record(stamps=[]), {"D-04", "S-07"}),
    ("D-05", first_token_late, {"D-05", "S-07"}),
    ("D-05", overlapping_queries, {"D-05", "S-07"}),
    ("D-05", overlapping_blocks, {"D-05", "S-07"}),
    ("D-06", other_sample, {"D-06", "S-07"}),
    ("D-06", always_reference_first, {"D-06", "S-07"}),
    ("D-07", row_twice, {"D-07", "D-05", "D-06", "S-07"}),
    ("D-07", sample_from_outside, {"D-07", "D-06", "S-07"}),
    ("D-08", other_order, {"D-08", "S-07"}),
    ("D-08", edit_record(seeds={"sample_index": 1, "schedule": 2}), {"D-08", "S-07"}),
    ("D-09", lambda m: m.record["host"].update(other_runs_seen=True), {"D-09"}),
    ("D-10", one_sample_favoured, {"D-10", "D-08", "S-07"}),
    ("R-01", few_repeats, {"R-01", "S-07"}),
    ("R-01", repeats_at_once, {"R-01", "S-07"}),
    ("R-01", two_instructions, {"R-01", "S-07"}),
    ("R-01", no_int8_ceiling, {"R-01", "S-07"}),
    ("R-01", lambda m: m.record["ceilings"][0].update(median=1.0), {"R-01", "S-07"}),
    ("R-01", lambda m: m.record["ceilings"][0].update(highest=1e12), {"R-01", "S-07"}),
    ("R-02", lambda m: m.result("fp16")["roofline"].update(percent_of_bandwidth=50.0),
     {"R-02", "S-07"}),
    ("R-02", lambda m: m.result("int4")["roofline"].update(reason=None), {"R-02", "S-07"}),
    ("R-03", ceiling_of_int8(7e6), {"R-03"}),
    ("R-04", ceiling_of_int8(7.6e6), {"R-04"}),
    ("R-05", heavy_weights, {"R-05", "R-03"}),
    ("P-01", edited_joules, {"P-01", "S-07"}),
    ("P-02", energy(joules=0.0), {"P-01", "P-02", "S-07"}),
    ("P-02", energy(reason=None), {"P-02", "S-07"}),
    ("P-02", lambda m: setattr(m, "power", "\0garbage\n"), {"P-02", "S-07"}),
    ("P-02", lambda m: setattr(m, "power", f"{m.power}1,rapl,cpu,power,2,W\n"), {"P-02", "S-07"}),
    ("P-03", metered_twice, {"P-03"}),
    ("P-04", with_metrics(joules_per_output_token=0.001), {"P-04", "S-07"}),
    ("P-05", work_while_idle, {"P-05", "S-07"}),
    ("P-06", watched(held_back={"HW thermal slowdown": 0.1}), {"P-06"}),
    ("P-06", watched(over_current_events=3), {"P-06"}),
    ("P-06", watched(foreign_processes=1), {"P-06"}),
    ("P-06", watched(power_mode_changed=True), {"P-06"}),
    ("P-06", throttled_and_silent, {"P-06", "S-07"}),
    ("P-07", watched(track="open", held_back={"cooling gpu": 1.0}), {"P-07"}),
    ("P-08", watched(held_back={"SW power cap": 1.0}, power_limit_W=300.0), {"P-08"}),
    ("P-08", watched(governor="powersave"), {"P-08"}),
    ("P-08", watched(load_before=3.0, cores=4), {"P-08"}),
    ("P-08", watched(gpu_clock_median_MHz=408.0, gpu_clock_expected_MHz=918.0), {"P-08"}),
    ("P-10", edit_record(conditions=None), {"P-10"}),
    ("P-09", sustained_by_hand, {"P-09", "S-07"}),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_smallest_failing_bundle(maker: Maker, case: Case) -> None:
    assert_found(maker, case)


def test_a_quiet_cool_machine_passes(maker: Maker) -> None:
    watched(governor="performance", load_before=0.1, cores=4, over_current_events=0)(maker)
    assert maker.findings() == []


def test_a_throttled_run_keeps_its_numbers_and_says_why(maker: Maker) -> None:
    watched(held_back={"HW thermal slowdown": 0.5})(maker)
    result = maker.result("int4")
    assert result["valid"] is False
    assert result["invalid_reasons"] == ["P-06: HW thermal slowdown in 50 % of the readings"]
    assert result["samples_per_s"] > 0


def test_honest_metrics_and_idle_windows_pass(maker: Maker) -> None:
    with_metrics()(maker)
    assert maker.findings() == []


def test_honest_idle_windows_pass(maker: Maker) -> None:
    maker.record["idle_windows"] = [[0, min(row["issued_ns"] for row in maker.samples)]]
    assert maker.findings() == []


def test_an_idle_window_added_by_hand_does_not_fit_the_energy(maker: Maker) -> None:
    metered(maker)
    maker.record["idle_windows"] = [[0, 1000]]
    findings = maker.findings()
    assert {found.rule_id for found in findings} == {"P-01", "S-07"}
    assert any("idle_before_W" in found.expected for found in findings)


def test_measured_energy_passes(maker: Maker) -> None:
    metered(maker)
    assert maker.result("int4")["energy"]["status"] == "measured"
    assert maker.findings() == []


@pytest.mark.parametrize(
    ("l2_bytes", "rules"), [(1000, set()), (7, {"S-02", "S-07"}), (None, {"S-02", "S-07"})]
)
def test_the_cache_of_a_run_on_a_gpu_is_its_l2(
    maker: Maker, l2_bytes: int | None, rules: set[str]
) -> None:
    maker.record["host"]["executed_on"] = "GPU kernels on NVIDIA H200"
    maker.system["cpu"]["last_level_cache_bytes"] = 10**9
    if l2_bytes is not None:
        maker.system["gpus"] = [{"name": "NVIDIA H200", "l2_cache_bytes": l2_bytes}]
    assert {found.rule_id for found in maker.findings()} == rules


def test_a_separate_accuracy_run_passes(maker: Maker) -> None:
    add_accuracy(maker)
    maker.derive()
    assert maker.findings() == []


def test_an_honest_invalid_result_is_still_refused_without_contradiction(maker: Maker) -> None:
    ceiling_of_int8(7e6)(maker)
    assert maker.result("int4")["invalid_reasons"][0].startswith("R-03")
    assert [found.rule_id for found in maker.findings()] == ["R-03"]


def test_a_round_must_hold_distinct_samples(offline: Maker) -> None:
    offline.samples = [row for row in offline.samples if row["sample"] != 7]
    offline.derive()
    assert {"D-02", "D-08"} <= {found.rule_id for found in offline.findings()}
