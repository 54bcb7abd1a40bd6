"""Reproducing: the request is a record's fields, the verdict SAME or DIFFERENT."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgebench.errors import RunFailed, SpecError
from edgebench.progress import SilentProgress
from edgebench.record import Record
from edgebench.repeat import repeat_words, run_again
from edgebench.spec import parse_run
from edgebench_reports.reproduce import ReproduceOptions, reproduce_command, speedup_text


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))


def reproduced(
    bundles: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    *,
    strict: bool = False,
) -> tuple[str, int]:
    maker = bundles.Maker(tmp_path / "published")
    bundle = maker.write()

    def again(record: Record, out: Path, progress: Any) -> Path:
        with monkeypatch.context() as patch:
            slowed = {"fp16": 40_000_000, "int4": int(10_000_000 * factor)}
            patch.setattr(bundles, "LATENCY_NS", slowed)
            here = bundles.Maker(out)
        here.record["run_id"] = "again"
        here.write()
        return out

    return reproduce_command(
        ReproduceOptions(run=str(bundle), out=tmp_path / "new", strict=strict),
        form="md", progress=SilentProgress(), again=again, lookup=maker.lookup,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "said", "code"),
    [(1.0, "SAME", 0), (1.1, "DIFFERENT (slower)", 6), (0.9, "DIFFERENT (faster)", 6)],
)
def test_verdicts(
    bundles: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    said: str,
    code: int,
) -> None:
    text, came = reproduced(bundles, tmp_path, monkeypatch, factor)
    assert came == code
    assert f"int4: {said}" in text
    assert "What differs" in text
    assert "accuracy 100.0 % published, 100.0 % here" in text


@pytest.mark.parametrize(
    ("speedup", "bounds", "said"),
    [
        (4.1, (3.9, 4.3), "4.00x published, 4.10x here: no difference seen, +2.5 % [-4.4, +9.9]"),
        (5.0, (4.9, 5.1), "4.00x published, 5.00x here: different, +25.0 % [+18.6, +32.1]"),
        (3.0, (2.9, 3.1), "3.00x here: different, -25.0 % [-29.3, -20.3]"),
        (5.0, None, "5.00x here: one of the two has no interval"),
    ],
)
def test_a_speedup_is_held_against_the_published_one(
    factory: ModuleType, speedup: float, bounds: tuple[float, float] | None, said: str
) -> None:
    result = factory.submission(factory.record_data()).record.results[1]
    there = result.model_copy(update={"speedup": 4.0, "speedup_ci95": (3.8, 4.2)})
    here = result.model_copy(update={"speedup": speedup, "speedup_ci95": bounds})
    assert said in str(speedup_text(there, here))
    assert speedup_text(there, here.model_copy(update={"speedup": None})) is None


def test_strict_takes_only_same(
    bundles: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reproduced(bundles, tmp_path, monkeypatch, 1.0, strict=True)[1] == 0


def test_a_tree_of_several_cases_is_refused(bundles: ModuleType, tmp_path: Path) -> None:
    maker = bundles.Maker(tmp_path / "t")
    maker.write()
    bundles.Maker(tmp_path / "t", scenario="offline").write()
    with pytest.raises(SpecError, match="expected one bundle, got 2 cases"):
        reproduce_command(
            ReproduceOptions(run=str(tmp_path / "t"), out=tmp_path / "o"),
            form="md", progress=SilentProgress(), lookup=maker.lookup,
        )  # fmt: skip


def test_the_request_is_the_records_fields_and_parses(factory: ModuleType, tmp_path: Path) -> None:
    from edgebench.spec import RunOptions

    data = factory.record_data()
    data["provenance"]["command"] = "rm -rf everything"
    record = factory.submission(factory.edited(data, "int4", transform="rtn")).record
    words = repeat_words(record, tmp_path)
    assert words[0] == "run"
    assert not any("rm -rf" in word for word in words)
    options = dict(word.removeprefix("--").split("=", 1) for word in words[1:])
    options.pop("format")
    options["threads"] = int(options["threads"])
    options["out"] = Path(options["out"])
    spec = parse_run(RunOptions(**options))
    assert (spec.workloads, spec.scenarios) == (("assistant",), ("single-stream",))
    assert spec.threads == 2
    hostile = factory.edited(data, "int4", transform="--out=elsewhere")
    assert "--transform=--out=elsewhere" in repeat_words(
        factory.submission(hostile).record, tmp_path
    )


def test_a_failed_run_is_said(
    factory: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = factory.edited(factory.record_data(), "int4", transform="no-such-transform")
    record = factory.submission(data).record
    with pytest.raises(RunFailed, match="exit 2"):
        run_again(record, tmp_path / "o", SilentProgress())
