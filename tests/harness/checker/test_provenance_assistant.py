"""The shipped model: honest submissions pass and cheats do not, at its real size."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from edgebench.prepare import calibration_set
from edgebench_workloads.catalog import find

pytestmark = [pytest.mark.torch, pytest.mark.slow]

DOCS = Path(__file__).parents[3] / "docs"
HONEST = {"rtn", "awq", "smoothquant", "gptq", "awq+gptq"}
CHEATS = {
    "2:4-pruned, rtn": "W-12",
    "layers 0 and 1 swapped, rtn": "W-04",
    "another reference, gptq": "W-10",
    "other calibration set, awq": "W-09",
    "other calibration set, gptq": "W-11",
    "rtn declared as gptq": "W-11",
    "damping 0.05 declared as 0.01": "W-11",
}


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], list[str]]:
    """The rules that a case of the table breaks, in the world of seed 0."""
    monkeypatch.syspath_prepend(str(DOCS))
    import provenance_cases
    import provenance_table

    workload = find("assistant")
    source = workload.reference_directory()
    sequences = calibration_set(workload, source).sequences
    world = provenance_cases.draw_world(source, sequences, 0, tmp_path)
    cases: dict[str, Any] = {**provenance_cases.HONEST, **provenance_cases.CHEATS}

    def rules(name: str) -> list[str]:
        found: Any = provenance_table.judged(world, cases[name](world))["rules"]
        return list(found)

    yield rules
    for name in ("provenance_cases", "provenance_table"):
        sys.modules.pop(name)


@pytest.mark.parametrize("name", sorted(HONEST))
def test_an_honest_one_passes(judge: Callable[[str], list[str]], name: str) -> None:
    assert judge(name) == []


@pytest.mark.parametrize(("name", "rule"), CHEATS.items())
def test_a_cheat_is_rejected(judge: Callable[[str], list[str]], name: str, rule: str) -> None:
    assert rule in judge(name)
