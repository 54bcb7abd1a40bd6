"""Small edits to a bundle that the families of rules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgebench.interleave import KERNELS
from edgebench.profiles import stamps_of
from edgebench.rules import RULES
from tests.harness.checker.conftest import MS, Maker

Edit = Callable[[Maker], None]
Case = tuple[str, Edit, set[str]]
"""The rule, the edit that breaks it, and the rules that are found.

S-07 comes along wherever the record still claims to be valid; where another rule comes along, the
same edit breaks both.
"""


def rows(maker: Maker, kernel: str) -> list[dict[str, Any]]:
    """One kernel's rows, to be edited."""
    return [row for row in maker.samples if row["kernel"] == kernel]


def edit_record(**changes: Any) -> Edit:
    return lambda maker: maker.record.update(changes)


def edit_result(kernel: str, **changes: Any) -> Edit:
    return lambda maker: maker.result(kernel).update(changes)


def add_accuracy(maker: Maker) -> None:
    now = max(row["completed_ns"] for row in maker.samples) + MS
    for kernel in KERNELS:
        for sample in range(64):
            source = next(r for r in rows(maker, kernel) if r["sample"] == sample)
            times = {"issued_ns": now, "first_token_ns": now + 1, "completed_ns": now + 2}
            own = {"mode": "accuracy", "block": 0, "query": sample, **times}
            maker.samples.append({**source, **own})
            now += 3


def make_external(maker: Maker) -> None:
    """Put an external engine in INT4's place: its text alone, and a server in the record."""
    maker.candidate = "external"
    for row in maker.samples:
        row["kernel"] = "fp16" if row["kernel"] == "fp16" else maker.candidate
    maker.nll = [row for row in maker.nll if row["kernel"] == "fp16"]
    maker.ledger |= {"steps": [], "tensors": {}, "tensors_file": None}
    maker.with_tensors_file = False
    maker.record["stamps"] = list(stamps_of("quick", is_external=True))
    maker.record["external"] = {
        "url": "http://127.0.0.1:8000",
        "endpoint": "/v1/completions",
        "prompt_form": "token ids",
        "model": "tiny",
        "software": "fake/1",
        "concurrency": 8,
        "notes": [],
    }
    maker.derive()


def case_id(case: Case) -> str:
    """Name a case by its rule and its edit."""
    return f"{case[0]}-{getattr(case[1], '__qualname__', '').split('.')[0]}"


def assert_found(maker: Maker, case: Case) -> None:
    """Break a valid bundle and demand exactly the rules that the case names."""
    rule, break_it, expected = case
    break_it(maker)
    findings = maker.findings()
    assert {found.rule_id for found in findings} == expected
    own = next(found for found in findings if found.rule_id == rule)
    assert own.severity == RULES[rule].severity
    assert own.what_to_do == RULES[rule].what_to_do
