"""The details of a run: everything recorded is told, nothing is made up."""

from __future__ import annotations

from types import ModuleType

from edgebench_reports.details import MAX_FACTS, VALUE_CHARACTERS, describe_runs, flatten
from edgebench_reports.entries import rank_entries


def test_leaves_are_named_by_their_path_and_nulls_left_out() -> None:
    tree = {"cpu": {"model": "x", "turbo": None, "flags": ["a", "b"]}, "gpus": [{"ok": True}]}
    assert list(flatten(tree)) == [
        ("cpu.model", "x"),
        ("cpu.flags", "a b"),
        ("gpus[0].ok", "yes"),
    ]


def test_a_strangers_system_is_cut_to_size(factory: ModuleType) -> None:
    system = {f"key{number}": "v" * 10_000 for number in range(1_000)}
    runs = describe_runs(rank_entries([factory.submission(factory.record_data(), system=system)]))
    assert len(runs[0].system_facts) == MAX_FACTS
    assert all(len(text) <= VALUE_CHARACTERS + 1 for _, text in runs[0].system_facts)


def test_each_run_is_described_once(factory: ModuleType) -> None:
    gallery = factory.gallery()
    runs = describe_runs(rank_entries(gallery))
    assert sorted(run.anchor for run in runs) == sorted(s.anchor for s in gallery)
    assert all(len(run.kernels) == 2 for run in runs)


def test_energy_says_its_domain_or_its_reason(factory: ModuleType) -> None:
    data = factory.edited(
        factory.record_data(), "int4", energy=factory.energy("rapl", "package-0", 12.0)
    )
    (run,) = describe_runs(rank_entries([factory.submission(data)]))
    said = {kernel.kernel: dict(kernel.facts)["energy"] for kernel in run.kernels}
    assert said["fp16"] == "unmeasured, no meter can be read: no RAPL, no NVML"
    assert said["int4"] == (
        "measured, 12.0 J, 21.4 W on average, rapl package-0, readings cover 99.0 %"
    )


def test_reasons_and_disturbance_are_told(factory: ModuleType) -> None:
    data = factory.edited(factory.record_data(), "int4", valid=False, invalid_reasons=["D-02: x"])
    data["host"] = {**data["host"], "other_runs_seen": True}
    (run,) = describe_runs(rank_entries([factory.submission(data)]))
    assert run.kernels[1].invalid_reasons == ("D-02: x",)
    assert "disturbance" in dict(run.facts)
