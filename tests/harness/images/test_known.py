"""What the checker knows of a workload of images is what the runner prepared."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgebench.checker.convolutions import check_convolutions
from edgebench.checker.known import known_workload
from edgebench.checker.recipe import read_recipe
from edgebench.checker.subject import Subject
from edgebench.checker.weights import compare
from edgebench.findings import Finding
from edgebench.images.prepared import PreparedImages
from edgebench.record import Ledger
from edgebench_workloads.catalog import Workload
from tests.harness.images.tiny_wake import made

CASES = [
    ("W-15", "stem", None),
    ("W-15", "stages.1.0.depthwise", "0" * 64),
    ("W-15", "head", "0" * 64),
]

pytestmark = [pytest.mark.torch, pytest.mark.native]


def test_runner_and_checker_agree(prepared: PreparedImages) -> None:
    known = known_workload("wake")
    assert known.kind == prepared.workload.kind == "images"
    assert known.graph_sha256 == prepared.ledger.graph_sha256
    assert known.scored_count == prepared.scored_count
    assert list(known.prompt_tokens) == list(prepared.input_tokens)
    assert known.shapes.keys() == prepared.quantized.tensors.keys()
    assert known.calibration_overlap == 0
    assert known.genome == prepared.genome
    assert known.work.operations_per_token == 2 * prepared.cost("fp16").macs
    for sample, answer in enumerate(prepared.classes):
        assert known.answers.is_right(sample, [answer])
        assert not known.answers.is_right(sample, [1 - answer])


def test_honest_codes_are_the_nearest_and_others_are_not(prepared: PreparedImages) -> None:
    known = known_workload("wake")
    recipe = read_recipe(prepared.ledger.steps)
    for name, tensor in prepared.quantized.tensors.items():
        weight = known.reference.weight(name)
        assert list(compare(name, tensor, weight, recipe)) == []
        tensor.qweight[0, 0] ^= 0x88
        try:
            assert {fault.rule for fault in compare(name, tensor, weight, recipe)} & {"W-04"}
        finally:
            tensor.qweight[0, 0] ^= 0x88


def int8_findings(ledger: Ledger) -> list[Finding]:
    bundle = SimpleNamespace(ledger=ledger)
    subject = Subject(bundle=bundle, workload=known_workload("wake"))  # type: ignore[arg-type]
    return list(check_convolutions(subject))


def test_honest_int8_weights_pass(prepared: PreparedImages) -> None:
    assert int8_findings(prepared.ledger) == []


def test_ledgers_from_before_int8_pass(tiny_wake: Workload) -> None:
    ledger = made("rtn:convolution_bits=16").ledger
    step = ledger.steps[0]
    parameters = {k: v for k, v in step.parameters.items() if k != "convolution_bits"}
    old = step.model_copy(update={"parameters": parameters})
    assert int8_findings(ledger.model_copy(update={"steps": [old]})) == []


@pytest.mark.parametrize(("rule", "name", "sha256"), CASES, ids=[case[1] for case in CASES])
def test_another_int8_weight_is_found(
    prepared: PreparedImages, rule: str, name: str, sha256: str | None
) -> None:
    given = {**prepared.ledger.convolutions, name: sha256}
    changed = {key: value for key, value in given.items() if value is not None}
    (found,) = int8_findings(prepared.ledger.model_copy(update={"convolutions": changed}))
    assert found.rule_id == rule
    assert name in found.expected
