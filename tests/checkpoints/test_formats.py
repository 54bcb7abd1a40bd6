"""Every format's codes, scales and zero points come in bit for bit, and go out again."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from edgebench_kernels.checkpoints import FORMATS, detect, find_format  # noqa: E402
from edgebench_kernels.checkpoints.directory import read_int4, write_int4  # noqa: E402
from edgebench_kernels.checkpoints.layout import Grouping, UnsupportedLayout  # noqa: E402
from edgebench_kernels.formats import Int4Tensor, dequantize, unpack_codes  # noqa: E402
from tests.checkpoints.conftest import GROUP  # noqa: E402
from tests.checkpoints.packers import PACKERS, quantization_config  # noqa: E402

pytestmark = pytest.mark.torch


def assert_is(tensor: Int4Tensor, truth) -> None:
    assert np.array_equal(unpack_codes(tensor), truth.codes)
    assert np.array_equal(tensor.scale.view(np.uint16), truth.scale.view(np.uint16))
    assert np.array_equal(tensor.zero, truth.zero)
    assert tensor.group == GROUP


def test_every_format_has_a_packer() -> None:
    assert FORMATS.keys() == PACKERS.keys()
    assert all(FORMATS[name].name == name for name in FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_its_config_is_recognised(name: str) -> None:
    assert detect(quantization_config(name, GROUP, symmetric=True)) is FORMATS[name]
    assert find_format(name) is FORMATS[name]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_a_checkpoint_is_read_bit_for_bit(make_checkpoint, name: str, symmetric: bool) -> None:
    made = make_checkpoint(name, symmetric=symmetric)
    layout, checkpoint = read_int4(made.directory)
    assert layout is FORMATS[name]
    assert checkpoint.quantized.keys() == made.linears.keys()
    for module, truth in made.linears.items():
        assert_is(checkpoint.quantized[module], truth)
    assert checkpoint.tensors.keys() == made.others.keys()
    assert all(torch.equal(checkpoint.tensors[key], made.others[key]) for key in made.others)
    assert "quantization_config" not in checkpoint.config


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_scale_times_code_minus_zero(make_checkpoint, name: str) -> None:
    made = make_checkpoint(name)
    quantized = read_int4(made.directory)[1].quantized
    for module, truth in made.linears.items():
        n, k = truth.codes.shape
        for i, j in ((0, 0), (n - 1, k - 1), (n // 2, k // 3)):
            step = int(truth.codes[i, j]) - int(truth.zero[i, j // GROUP])
            expected = float(truth.scale[i, j // GROUP]) * step
            assert dequantize(quantized[module])[i, j] == np.float32(expected)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_any_format_becomes_any_other(make_checkpoint, tmp_path, source: str, target: str) -> None:
    """Symmetric, so that every format can hold it; what is written is what the packers write."""
    made = make_checkpoint(source, symmetric=True)
    write_int4(read_int4(made.directory)[1], FORMATS[target], tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(written.pop(key), made.others[key]) for key in made.others)
    for module, truth in made.linears.items():
        for part, array in PACKERS[target](truth.codes, truth.scale, truth.zero, GROUP).items():
            assert torch.equal(written.pop(f"{module}.{part}"), torch.from_numpy(array)), part
    assert not written
    layout, again = read_int4(tmp_path / "out")
    assert layout is FORMATS[target]
    for module, truth in made.linears.items():
        assert_is(again.quantized[module], truth)


@pytest.mark.parametrize("name", ["canonical", "awq-gemm", "gptq-v1", "gptq-v2"])
def test_zero_points_survive_the_way_out(make_checkpoint, tmp_path, name: str) -> None:
    made = make_checkpoint(name, symmetric=False)
    write_int4(read_int4(made.directory)[1], FORMATS[name], tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    stored = load_file(made.directory / "model.safetensors")
    assert written.keys() == stored.keys()
    assert all(torch.equal(written[key], stored[key]) for key in stored)


def test_v1_zero_points_of_zero_borrow_from_their_neighbours() -> None:
    """0x00000001 - 0x11111111 borrows through every nibble; adding it back restores all."""
    zero = np.zeros((8, 1), dtype=np.uint8)
    zero[0, 0] = 1
    codes, scale = np.zeros((8, 32), dtype=np.uint8), np.ones((8, 1), dtype=np.float16)
    parts = PACKERS["gptq-v1"](codes, scale, zero, 32)
    assert int(parts["qzeros"][0, 0]) % 2**32 == 0xEEEEEEF0
    tensor = FORMATS["gptq-v1"].decode(parts, Grouping(group=32, is_symmetric=False))
    assert np.array_equal(tensor.zero, zero)


@pytest.mark.parametrize("name", ["awq-gemm", "gptq-v1", "gptq-v2"])
def test_one_group_over_all_of_k(name: str) -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 16, (8, 96), dtype=np.uint8)
    scale, zero = np.full((8, 1), 0.5, np.float16), np.full((8, 1), 8, np.uint8)
    parts = PACKERS[name](codes, scale, zero, 96)
    layout = FORMATS[name]
    tensor = layout.decode(parts, Grouping(group=-1, is_symmetric=True))
    assert tensor.group == 96
    assert layout.config({"x": tensor}, [])["group_size"] == -1
    assert np.array_equal(unpack_codes(tensor), codes)


def test_compressed_tensors_of_awkward_sides() -> None:
    """N and K that fill no word: padded there, cut here."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 16, (13, 20), dtype=np.uint8)
    scale = rng.lognormal(-4, 1, (13, 1)).astype(np.float16)
    zero = rng.integers(0, 16, (13, 1), dtype=np.uint8)
    layout = FORMATS["compressed-tensors"]
    parts = PACKERS["compressed-tensors"](codes, scale, zero, 20)
    tensor = layout.decode(parts, Grouping(group=None, is_symmetric=False))
    assert np.array_equal(unpack_codes(tensor), codes)
    assert np.array_equal(tensor.zero, zero)


def test_compressed_tensors_of_two_groups_names_their_linears() -> None:
    def tensor(k: int, group: int) -> Int4Tensor:
        return Int4Tensor(
            qweight=np.zeros((8, k // 2), np.uint8),
            scale=np.ones((8, k // group), np.float16),
            zero=np.full((8, k // group), 8, np.uint8),
            group=group,
        )

    mixed = {"a": tensor(128, 128), "b": tensor(96, 32), "c": tensor(20, 20)}
    config = FORMATS["compressed-tensors"].config(mixed, ["lm_head"])
    groups = [
        (one["targets"], one["weights"]["strategy"], one["weights"]["group_size"])
        for one in config["config_groups"].values()
    ]
    assert groups == [(["a"], "group", 128), (["b"], "group", 32), (["c"], "channel", None)]
    assert config["ignore"] == ["lm_head"]
    with pytest.raises(UnsupportedLayout, match=r"one group for all linears, got \[20, 32, 128\]"):
        FORMATS["awq-gemm"].config(mixed, [])


@pytest.mark.parametrize("name", ["compressed-tensors"])
def test_bf16_scales_that_fp16_holds_are_exact(make_checkpoint, name: str) -> None:
    def widen(parts) -> None:
        parts["weight_scale"] = torch.from_numpy(parts["weight_scale"]).bfloat16()

    made = make_checkpoint(name, symmetric=True, change=widen)
    quantized = read_int4(made.directory)[1].quantized
    for module, truth in made.linears.items():
        rounded = torch.from_numpy(truth.scale).bfloat16().half().numpy()
        assert np.array_equal(quantized[module].scale, rounded)


def test_a_written_config_says_fp16_and_what_stayed(make_checkpoint, tmp_path) -> None:
    made = make_checkpoint("gptq-v1", symmetric=True)
    write_int4(read_int4(made.directory)[1], FORMATS["awq-gemm"], tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert "torch_dtype" not in config
    assert config["quantization_config"] == {
        "quant_method": "awq",
        "version": "gemm",
        "bits": 4,
        "group_size": GROUP,
        "zero_point": True,
        "modules_to_not_convert": ["lm_head"],
    }
