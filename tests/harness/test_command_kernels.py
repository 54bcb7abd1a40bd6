"""`bench kernels`: its files, its words, and that an interrupted race goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgebench import command_kernels
from edgebench.cli import main
from edgebench.command_kernels import KernelOptions, kernels_command
from edgebench.errors import BenchError, RunFailed, SpecError
from edgebench.record import KernelTuning
from edgebench_kernels.race.cases import Case
from edgebench_kernels.race.rows import Row
from edgebench_reports.kernel_roofline import draw_kernel_roofline

pytestmark = pytest.mark.native

Race = Callable[..., Iterator[list[Row]]]


def a_row(case: Case, ms: float = 1.0) -> Row:
    return Row(
        op="w4a8",
        n=case.n,
        k=case.k,
        m=case.m,
        group=case.group,
        isa="avx2",
        threads=2,
        ms=ms,
        ms_iqr=0.1,
        weight_gb_per_s=1.5,
        gflops=100.0,
        percent_of_bandwidth=80.0,
        percent_of_compute=5.0,
        rel_error=0.01,
        peer=None,
        ratio_to_best_peer=1.5,
    )


def options(out: Path | None = None, **changes: Any) -> KernelOptions:
    given: dict[str, Any] = {
        "shapes": ("64,128", "128,128"),
        "batch": "1,4",
        "op": "w4a8",
        "group": 128,
        "rounds": 1,
        "peers": "none",
        "threads": None,
        "isa": None,
        "out": out,
    }
    return KernelOptions(**{**given, **changes})


def race_of(seen: list[Case], stop_after: int | None = None) -> Race:
    def race(cases: Sequence[Case], **_: object) -> Iterator[list[Row]]:
        for case in cases:
            if stop_after is not None and len(seen) >= stop_after:
                raise KeyboardInterrupt
            seen.append(case)
            yield [a_row(case)]

    return race


@pytest.fixture(autouse=True)
def untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning takes seconds and is tested elsewhere."""
    chosen = KernelTuning(prefetch_bytes=0, few_tokens={"w4a8": 4})
    monkeypatch.setattr(command_kernels, "tune_kernels", lambda: chosen)
    monkeypatch.setattr(command_kernels, "apply_tuning", lambda _: None)


def command(given: KernelOptions, form: str = "json") -> str:
    return kernels_command(given, form=form, quiet=True, draw=draw_kernel_roofline)


def test_interrupted_race_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[Case] = []
    monkeypatch.setattr(command_kernels, "race_shape", race_of(before, stop_after=3))
    with pytest.raises(KeyboardInterrupt):
        command(options(tmp_path / "race"))
    kept = json.loads((tmp_path / "race" / "rows.json").read_text())
    assert len(kept) == 3
    after: list[Case] = []
    monkeypatch.setattr(command_kernels, "race_shape", race_of(after))
    rows = json.loads(command(options(tmp_path / "race")))
    assert [(case.n, case.m) for case in after] == [(128, 4)]
    assert len(rows) == 4
    assert json.loads((tmp_path / "race" / "rows.json").read_text()) == rows


def test_folder_holds_table_picture_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_kernels, "race_shape", race_of([]))
    table = command(options(tmp_path), form="table")
    assert (tmp_path / "table.md").read_text().strip() == table.strip()
    assert (tmp_path / "roofline.svg").read_text().startswith("<svg")
    race = json.loads((tmp_path / "race.json").read_text())
    assert race["request"]["rounds"] == 1
    assert race["kernel_tuning"]["few_tokens"] == {"w4a8": 4}
    assert race["system"]["cpu"]["model"]
    assert "| 64 x 128 | 1 | EdgeBench | w4a8 |" in table


@pytest.mark.parametrize("changed", [{"rounds": 2}, {"group": 64}, {"batch": "8"}])
def test_another_race_is_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    monkeypatch.setattr(command_kernels, "race_shape", race_of([]))
    command(options(tmp_path))
    with pytest.raises(SpecError, match="give another --out"):
        command(options(tmp_path, **changed))


def test_a_broken_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "race.json").write_text("{")
    with pytest.raises(SpecError, match="cannot be read"):
        command(options(tmp_path))


def test_running_out_of_memory_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(cases: Sequence[Case], **_: object) -> Iterator[list[Row]]:
        raise MemoryError("[kernels] too large")
        yield []

    monkeypatch.setattr(command_kernels, "race_shape", small)
    with pytest.raises(RunFailed, match="too large"):
        command(options())


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"shapes": ("64",)}, "expected --shapes N,K, got '64'"),
        ({"shapes": ("64,-1",)}, "whole numbers above 0"),
        ({"shapes": ("0,128",)}, "whole numbers above 0"),
        ({"shapes": ("64,100",)}, "multiple of group 128"),
        ({"batch": "1,x"}, "whole numbers above 0"),
        ({"op": "w4a4"}, "expected a op out of|expected an op out of"),
        ({"peers": "llama"}, "expected a peer out of"),
        ({"isa": "sse"}, "unknown instruction set 'sse'"),
        ({"threads": 100_000}, "threads must be 1..256"),
    ],
)
def test_bad_input_is_named(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(BenchError, match=text) as caught:
        command(options(**changed))
    assert caught.value.exit_code == 2


def test_command_line_races_for_real() -> None:
    words = "kernels --shapes 64,128 --batch 2 --rounds 1 --peers none --group 32 --quiet"
    result = CliRunner().invoke(main, [*words.split(), "--format", "json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.output)
    assert [(row["op"], row["m"], row["group"]) for row in rows] == [
        ("w4a16", 2, 32),
        ("w4a8", 2, 32),
    ]
    assert all(row["ms"] > 0 for row in rows)
