"""A workload of images as the harness takes it: its ledger, its cost, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgebench.errors import AssetError, SpecError
from edgebench.images.cost import cost_of
from edgebench.images.graph import graph_sha256, read_genome
from edgebench.images.prepared import PreparedImages
from edgebench.images.request import image_chain
from edgebench.prepare import prepare
from edgebench.prepared_text import require_text
from edgebench.progress import SilentProgress
from edgebench.transform import parse_transform
from edgebench_kernels.formats import dequantize
from edgebench_workloads.catalog import Workload
from edgebench_workloads.wake.costs import products, total_parameters
from edgebench_workloads.wake.genome import LARGEST, SMALLEST, layers
from tests.harness.images.tiny_wake import made

pytestmark = [pytest.mark.torch, pytest.mark.native]


def test_products_become_int4_and_the_other_layers_int8(prepared: PreparedImages) -> None:
    tensors, convolutions = prepared.quantized.tensors, prepared.quantized.convolutions
    assert tensors.keys() | convolutions.keys() == {layer.name for layer in layers(SMALLEST)}
    assert not tensors.keys() & convolutions.keys()
    assert convolutions["stem"].shape == (8, 9)
    assert prepared.ledger.convolutions.keys() == convolutions.keys()
    assert prepared.ledger.steps[0].parameters["convolution_bits"] == 8
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
    held = sum(tensor.size_bytes for tensor in prepared.quantized.rounded.values())
    biases = sum(layer.outputs for layer in layers(SMALLEST))
    assert prepared.cost("int4").model_bytes == held + 2 * biases
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
    assert str(chain) == "rtn:convolution_bits=8,group=32,symmetric=true,whole_rows=true"
    chain = image_chain(parse_transform("rtn:convolution_bits=16"))
    assert str(chain) == "rtn:convolution_bits=16,whole_rows=true"


def test_convolutions_stay_where_that_is_asked(tiny_wake: Workload) -> None:
    own = made("rtn:convolution_bits=16")
    assert own.quantized.convolutions == own.ledger.convolutions == {}
    held = sum(tensor.size_bytes for tensor in own.quantized.tensors.values())
    quantized = sum(layer.weights for layer in products(SMALLEST))
    expected = held + 2 * (total_parameters(SMALLEST) - quantized)
    assert own.cost("int4").model_bytes == expected


@pytest.mark.parametrize(
    ("workload", "bits", "said"),
    [
        ("wake", 4, r"expected convolution_bits to be one of \(8, 16\), got 4"),
        (
            "assistant",
            8,
            "expected convolution_bits=8 for a model of convolutions, got one without",
        ),
    ],
)
def test_bits_that_do_not_fit_are_refused(
    tiny_wake: Workload, workload: str, bits: int, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        prepare(workload, parse_transform(f"rtn:convolution_bits={bits}"), SilentProgress())


def test_what_torch_runs_is_what_the_codes_stand_for(prepared: PreparedImages) -> None:
    """Against weights that are rounded by hand, in the reference's own forward pass."""
    from edgebench.images.choices import with_int8
    from edgebench_workloads.wake.subnet import read

    weights = read(prepared.directory)[1]
    own = with_int8(weights, prepared.quantized.convolutions)
    unlike = {name for name in weights if not torch.equal(weights[name], own[name])}
    assert unlike <= {f"{name}.weight" for name in prepared.quantized.convolutions}
    stem = weights["stem.weight"].double().flatten(1)
    scale = (stem.abs().amax(1, keepdim=True) / 127).half().double()
    expected = (stem / scale).round().mul(scale).view(weights["stem.weight"].shape)
    torch.testing.assert_close(own["stem.weight"].double(), expected, rtol=0, atol=1e-7)


def test_the_engine_says_that_weights_are_int8(prepared: PreparedImages) -> None:
    from edgebench.images.engines import CpuImageEngines

    engine = CpuImageEngines(prepared, ["int4"]).for_scenario("int4", "single-stream")
    assert "others (stem, depthwise, INT8 weights)" in engine.executed_path
    plain = CpuImageEngines(made("rtn:convolution_bits=16"), ["int4"])
    assert "INT8" not in plain.for_scenario("int4", "single-stream").executed_path


def test_what_takes_text_alone_says_so(prepared: PreparedImages) -> None:
    with pytest.raises(SpecError, match=r"\[audit\] expected a workload of text, got wake"):
        require_text(prepared, "audit")
