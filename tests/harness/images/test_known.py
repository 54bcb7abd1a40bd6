"""What the checker knows of a workload of images is what the runner prepared."""

from __future__ import annotations

import pytest

from edgebench.checker.known import known_workload
from edgebench.checker.recipe import read_recipe
from edgebench.checker.weights import compare
from edgebench.images.prepared import PreparedImages

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
