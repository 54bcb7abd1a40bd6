"""A workload of images as the harness takes it: its ledger, its cost, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgebench.errors import AssetError, SpecError
from edgebench.images.cost import cost_of
from edgebench.images.graph import graph_sha256, read_genome
from edgebench.images.prepared import PreparedImages
from edgebench.images.request import image_chain
from edgebench.prepare import prepare, require_text
from edgebench.progress import SilentProgress
from edgebench.transform import parse_transform
from edgebench_kernels.formats import dequantize
from edgebench_workloads.wake.costs import products, total_parameters
from edgebench_workloads.wake.genome import LARGEST, SMALLEST

pytestmark = [pytest.mark.torch, pytest.mark.native]


def test_every_matrix_product_is_quantized_and_nothing_else(prepared: PreparedImages) -> None:
    tensors = prepared.quantized.tensors
    assert tensors.keys() == {layer.name for layer in products(SMALLEST)}
    for layer in products(SMALLEST):
        assert tensors[layer.name].shape == (layer.outputs, layer.inputs)
    assert prepared.ledger.steps[0].parameters["whole_rows"] is True
    assert prepared.ledger.tensors_file is not None
    assert prepared.identity.kind == "images"


def test_codes_stand_for_their_weights(prepared: PreparedImages) -> None:
    from edgebench.images.prepared import open_linears

    linears = open_linears(prepared.workload, prepared.directory)
    for name, tensor in prepared.quantized.tensors.items():
        weight = linears.weight(name).astype(np.float32)
        step = np.repeat(tensor.scale.astype(np.float32), tensor.group, axis=1)
        # Half a step by rounding to the nearest; a scale in fp16 may cut a range's end by less
        # than 15 x 2^-11 of a step, and a zero point that is rounded shifts by half a step.
        assert np.all(np.abs(dequantize(tensor) - weight) <= (1.0 + 15 / 2**11) * step)


def test_bytes_are_those_of_the_tensors(prepared: PreparedImages) -> None:
    tensors = prepared.quantized.tensors
    quantized = sum(layer.weights for layer in products(SMALLEST))
    held = sum(tensor.size_bytes for tensor in tensors.values())
    expected = held + 2 * (total_parameters(SMALLEST) - quantized)
    assert prepared.cost("int4").model_bytes == expected
    assert prepared.cost("fp16").model_bytes == 2 * total_parameters(SMALLEST)
    assert cost_of(SMALLEST, {}) == prepared.cost("fp16")


def test_another_graph_has_another_hash() -> None:
    assert graph_sha256(LARGEST) != graph_sha256(SMALLEST)
    assert graph_sha256(SMALLEST) != graph_sha256(replace(SMALLEST, resolution=80))


def test_no_genome_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"genome": {"resolution": 1}}')
    with pytest.raises(AssetError, match="expected the genome of a subnet"):
        read_genome(tmp_path)


@pytest.mark.parametrize("text", ["awq", "gptq", "smoothquant", "awq+gptq"])
def test_transforms_of_text_are_refused(prepared: PreparedImages, text: str) -> None:
    with pytest.raises(SpecError, match="expected rtn for a workload of images"):
        prepare("wake", parse_transform(text), SilentProgress())


def test_given_parameters_stay() -> None:
    chain = image_chain(parse_transform("rtn:group=32,symmetric=true"))
    assert str(chain) == "rtn:group=32,symmetric=true,whole_rows=true"


def test_what_takes_text_alone_says_so(prepared: PreparedImages) -> None:
    with pytest.raises(SpecError, match=r"\[audit\] expected a workload of text, got wake"):
        require_text(prepared, "audit")
