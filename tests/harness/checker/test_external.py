"""A bundle of an external engine says so everywhere, and claims nothing that cannot be checked."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench.findings import Finding
from tests.harness.checker.conftest import EOS, Maker, answer_ids
from tests.harness.checker.edits import Edit, edit_record, edit_result, make_external, rows


@pytest.fixture
def external(maker: Maker) -> Maker:
    """A valid single-stream bundle of an external engine, not yet written."""
    make_external(maker)
    return maker


def errors(maker: Maker) -> set[str]:
    return {found.rule_id for found in maker.findings() if found.severity == "error"}


@pytest.mark.parametrize("scenario", ["maker", "offline"])
def test_it_passes_with_one_warning(scenario: str, request: pytest.FixtureRequest) -> None:
    maker: Maker = request.getfixturevalue(scenario)
    make_external(maker)
    findings: list[Finding] = maker.findings()
    assert [found.rule_id for found in findings] == ["E-02"]
    assert findings[0].severity == "warning"


def test_its_result_says_what_is_unknown(external: Maker) -> None:
    result = external.result("external")
    assert result["weight_bytes"] is None
    assert result["peak_memory_bytes"] is None
    assert result["call_nll"] is None
    assert set(result["roofline"].values()) == {None, "external engine: bytes unknown"}
    assert [text.partition(":")[0] for text in result["warnings"]] == ["E-02"]
    assert result["speedup"] > 1
    assert result["accuracy_passed"] is True


def _steps(maker: Maker) -> None:
    maker.ledger["steps"] = [
        {
            "transform": "rtn",
            "parameters": {"bits": 4},
            "before_sha256": "a" * 64,
            "after_sha256": "b" * 64,
        }
    ]


def _tensors(maker: Maker) -> None:
    maker.ledger["tensors"] = {"lm_head": "b" * 64}


def _file(maker: Maker) -> None:
    maker.with_tensors_file = True


def _open_file(maker: Maker) -> None:
    maker.kept = {"payload": np.zeros(1000, np.float16)}


def _roofline(maker: Maker) -> None:
    maker.result("external")["roofline"]["percent_of_bandwidth"] = 50.0


def _likelihood(maker: Maker) -> None:
    maker.nll += [row | {"kernel": "external"} for row in maker.nll]


def _third_kernel(maker: Maker) -> None:
    maker.record["results"].append(maker.result("fp16") | {"kernel": "int4"})


def _rows_of_int4(maker: Maker) -> None:
    source = rows(maker, "external")[-1]
    late = {name: source[name] + 10**12 for name in ("issued_ns", "first_token_ns", "completed_ns")}
    maker.samples.append(source | late | {"kernel": "int4", "query": 999})


def _other_samples(maker: Maker) -> None:
    own = rows(maker, "external")
    own[0]["sample"], own[1]["sample"] = own[1]["sample"], own[0]["sample"]


def _wrong_answers(maker: Maker) -> None:
    for row in rows(maker, "external"):
        if row["sample"] % 2:
            row["output_ids"] = [3, 3, 3, EOS]
    maker.derive()


def _short_answers(maker: Maker) -> None:
    for row in rows(maker, "external"):
        row["output_ids"] = [row["output_ids"][0], EOS]
    maker.derive()


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (edit_record(external=None), {"E-01", "S-07"}),
        (edit_record(stamps=["NON-COMPLIANT-DURATION"]), {"D-04", "S-07"}),
        (edit_result("external", transform="rtn"), {"E-01", "S-07"}),
        (edit_result("external", weight_bytes=1000), {"E-01", "R-02", "S-07"}),
        (edit_result("external", peak_memory_bytes=1000), {"E-01", "S-07"}),
        (edit_result("external", warnings=[]), {"S-07"}),
        (edit_result("external", samples_per_s=1e6), {"N-01", "S-07"}),
        (edit_result("external", speedup=99.0), {"N-02", "S-07"}),
        (_roofline, {"E-01", "R-02", "S-07"}),
        (_steps, {"E-01", "S-07"}),
        (_tensors, {"E-01", "S-07"}),
        (_file, {"E-01", "S-07"}),
        (_open_file, {"E-01", "S-07"}),
        (_likelihood, {"Q-06", "S-07"}),
        (_third_kernel, {"S-06", "S-07"}),
        (_rows_of_int4, {"S-06", "S-07"}),
        (_other_samples, {"D-06", "S-07"}),
        (_wrong_answers, {"Q-02"}),
        (_short_answers, {"Q-02", "Q-04"}),
    ],
)
def test_what_breaks_a_rule(external: Maker, edit: Edit, expected: set[str]) -> None:
    edit(external)
    assert errors(external) == expected


def test_the_stamp_is_an_external_engines_alone(maker: Maker) -> None:
    maker.record["stamps"] = ["NON-COMPLIANT-DURATION", "EXTERNAL-ENGINE"]
    assert errors(maker) == {"D-04", "S-07"}


def test_a_server_in_the_record_without_its_kernel(external: Maker) -> None:
    own = Maker(external.root / "own")
    own.record["external"] = external.record["external"]
    assert errors(own) == {"E-01", "S-07"}


def test_an_unended_answer_may_encode_to_fewer_tokens(external: Maker) -> None:
    for row in rows(external, "external"):
        if row["sample"] == 0:
            row["output_ids"] = answer_ids(0)[:-1]
    external.derive()
    assert errors(external) <= {"Q-02"}  # it is wrong, and whole


def test_an_unended_answer_of_ours_may_not(maker: Maker) -> None:
    rows(maker, "int4")[0]["output_ids"].pop()
    assert "Q-08" in errors(maker)
