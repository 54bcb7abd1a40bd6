"""The stage that races free choices, on a launcher that only writes numbers: its own code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda import geometry, paths  # noqa: E402
from edgebench_kernels.cuda.check import contenders, events, timer, tunings  # noqa: E402
from edgebench_kernels.cuda.check.events import Item, Log  # noqa: E402
from edgebench_kernels.cuda.check.worker import Request  # noqa: E402
from edgebench_kernels.cuda.launcher import Argument  # noqa: E402

from .emulated_launcher import Collector  # noqa: E402

pytestmark = pytest.mark.torch

SHAPES = {"o": (256, 1024), "down": (256, 2048)}
TASKS = (16, 64)
WRONG, BROKEN = ("EB_BATCH", 2), ("EB_PRODUCERS", 2)


@dataclass
class Writer(Collector):
    """Writes ones where a linear's outputs go, twos for WRONG code; BROKEN code does not start."""

    def run(
        self, plan: geometry.Launch, arguments: Sequence[Argument], *, overlap: bool = False
    ) -> None:
        super().run(plan, arguments, overlap=overlap)
        if plan.kernel not in (paths.GEMV, paths.CLUSTER, paths.WGMMA):
            return
        if BROKEN in plan.macros:
            raise RuntimeError("does not start")
        y = arguments[4]
        assert isinstance(y, torch.Tensor)
        y.fill_(2.0 if WRONG in plan.macros else 1.0)


def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> dict[str, Item]:
    """What the stage's items became."""
    launcher = Writer()
    for room in (contenders, tunings):
        monkeypatch.setattr(room, "SHAPES", SHAPES)
    monkeypatch.setattr(tunings, "TASKS", TASKS)
    monkeypatch.setattr(tunings, "launcher_of", lambda device: launcher)
    monkeypatch.setattr(tunings, "Gpu", SimpleNamespace(open=lambda: None))
    monkeypatch.setattr(tunings, "gpu_facts", lambda gpu: SimpleNamespace(l2_bytes=64))
    monkeypatch.setattr(tunings.precompile, "compile_all", lambda jobs, arch: [])
    monkeypatch.setattr(timer, "sample_ns", lambda one, repeats: 1e4 / one.products)
    log = Log(tmp_path / "events")
    tunings.run(log, Request(work=tmp_path, until=time.monotonic() + seconds))
    return {item.name: item for item in events.read(tmp_path / "events")}


def test_what_is_wrong_or_broken_is_told_and_not_raced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = stage(tmp_path, monkeypatch, 1000.0)
    tries = {name: item for name, item in items.items() if name.startswith("try ")}
    wrong = [item for name, item in tries.items() if " BATCH=2 " in name]
    broken = [item for name, item in tries.items() if " PRODUCERS=2 " in name]
    assert wrong
    assert all("outputs differ by 1, at most" in item.text for item in wrong)
    assert broken
    assert all("does not start" in item.text for item in broken)
    failed = {item.name for item in tries.values() if item.status != events.PASSED}
    assert failed == {item.name for item in (*wrong, *broken)}
    for m in TASKS:
        for name in SHAPES:
            [table] = items[f"M={m} {name}"].data["tables"]
            texts = [row[1] for row in table["rows"]]
            assert sum(tunings.DEFAULT in text for text in texts) == 1
            assert contenders.FP16 in texts
            assert len(texts) > 3
            assert not any("batch=2" in text or "producers=2" in text for text in texts)
    [sums] = items["sums"].data["tables"]
    rows = [(row[0], row[1], pytest.approx(row[2])) for row in sums["rows"]]
    names = ("default", "fastest of each", contenders.FP16)
    assert rows == [(f"M = {m}", what, 10.0) for m in TASKS for what in names]


def test_without_time_nothing_is_raced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = stage(tmp_path, monkeypatch, tunings.KEPT_S / 2)
    assert items["M=16 o"].status == events.UNAVAILABLE
    assert items["M=16 o"].text == "too little time was left"
