"""What the canonical form cannot hold, and what is broken, is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.checkpoints import FORMATS, detect, find_format  # noqa: E402
from edgebench_kernels.checkpoints.directory import read_int4, write_int4  # noqa: E402
from edgebench_kernels.checkpoints.layout import UnsupportedLayout  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quant_method": "gguf"}, r"quant_method 'gguf'.*only awq, compressed-tensors, edge"),
        ({}, "quant_method None is not read here"),
        ({"quant_method": "gptq", "checkpoint_format": "marlin"}, "checkpoint_format 'marlin'"),
    ],
)
def test_an_unknown_method_is_named(config, message: str) -> None:
    with pytest.raises(UnsupportedLayout, match=message):
        detect(config)


def test_an_unknown_format_suggests_the_nearest() -> None:
    with pytest.raises(UnsupportedLayout, match="did you mean 'gptq-v2'"):
        find_format("gptq-v3")


def set_weights(**values):
    def change(config) -> None:
        config["config_groups"]["group_0"]["weights"].update(values)

    return change


def set_scheme(**values):
    def change(config) -> None:
        config["config_groups"]["group_0"].update(values)

    return change


def set_top(**values):
    def change(config) -> None:
        config.update(values)

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("awq-gemm", set_top(version="gemv"), "layout 'gemv'.*only 'gemm'"),
        ("awq-gemm", set_top(version="gemv_fast"), "layout 'gemv_fast'"),
        ("awq-gemm", set_top(version="marlin"), "layout 'marlin'"),
        ("awq-gemm", set_top(format="gemv"), r"layout 'gemv' \(format\)"),
        ("awq-gemm", set_top(checkpoint_format="llm-awq"), "layout 'llm-awq'"),
        ("awq-gemm", set_top(backend="llm-awq"), "layout of llm-awq"),
        ("awq-gemm", set_top(bits=3), "only 4 bits.*bits=3"),
        ("awq-gemm", set_top(group_size=16), "group_size must be 32, 64, 128 or -1.*got 16"),
        ("awq-gemm", set_top(zero_point="yes"), "zero_point must be true or false"),
        ("awq-gemm", set_top(zero_point=False), "zero_point is false and qzeros hold other"),
        ("gptq-v1", set_top(bits=8), "only 4 bits.*bits=8"),
        ("gptq-v1", set_top(is_marlin_format=True), "marlin layout"),
        ("gptq-v1", set_top(pack_dtype="int64"), "pack_dtype 'int64'"),
        ("gptq-v1", set_top(dynamic={"-:.*gate": {}}), "'dynamic'"),
        ("gptq-v1", set_top(group_size=None), "group_size must be 32"),
        ("gptq-v1", set_top(sym=True), "says symmetric.*written as gptq_v2"),
        ("canonical", set_top(bits=3), "only 4 bits"),
        ("compressed-tensors", set_top(format="int-quantized"), "format 'int-quantized'"),
        ("compressed-tensors", set_top(format="marlin-24"), "format 'marlin-24'"),
        ("compressed-tensors", set_top(kv_cache_scheme={"num_bits": 8}), "kv_cache_scheme"),
        ("compressed-tensors", set_top(transform_config={"a": 1}), "transform_config"),
        ("compressed-tensors", set_top(sparsity_config={"format": "2:4"}), "sparsity '2:4'"),
        ("compressed-tensors", set_top(config_groups={}), "config_groups must name a group"),
        ("compressed-tensors", set_top(config_groups={"a": 3}), "must describe its weights"),
        ("compressed-tensors", set_scheme(input_activations={"num_bits": 8}), "input_activations"),
        ("compressed-tensors", set_scheme(format="naive-quantized"), "format 'naive-quantized'"),
        ("compressed-tensors", set_weights(num_bits=8), "only 4 bits.*num_bits=8"),
        ("compressed-tensors", set_weights(type="float"), "only type int"),
        ("compressed-tensors", set_weights(strategy="tensor"), "strategy must be group or channel"),
    ],
)
def test_another_layout_is_named(make_checkpoint, name: str, change, message: str) -> None:
    made = make_checkpoint(name)
    made.change_config(change)
    with pytest.raises(ValueError, match=message):
        read_int4(made.directory)


def put(part: str, value):
    def change(parts) -> None:
        parts[part] = value(parts[part])

    return change


def swapped(g_idx):
    g_idx = g_idx.copy()
    g_idx[0] = g_idx.max() + 1
    return g_idx


@pytest.mark.parametrize(
    ("name", "change", "part"),
    [
        ("gptq-v1", set_top(desc_act=True), "g_idx"),
        ("compressed-tensors", set_weights(actorder="group"), "weight_g_idx"),
    ],
)
def test_an_order_that_is_said_must_be_there(make_checkpoint, name: str, change, part) -> None:
    made = make_checkpoint(name, change=lambda parts: parts.pop(part, None))
    made.change_config(change)
    with pytest.raises(ValueError, match="says act-order, and g_idx, which holds it, is missing"):
        read_int4(made.directory)


def test_a_trivial_order_is_read(make_checkpoint) -> None:
    made = make_checkpoint("gptq-v1")
    made.change_config(set_top(desc_act=True))
    assert read_int4(made.directory)[1].quantized.keys() == made.linears.keys()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("gptq-v1", put("g_idx", swapped), "down_proj: g_idx puts inputs.*desc_act"),
        ("gptq-v2", put("g_idx", lambda old: old[:-1].copy()), r"g_idx must be integers \[96\]"),
        ("gptq-v1", put("qzeros", lambda old: old[:-1].copy()), r"qzeros must be int32 \[3, 3\]"),
        ("awq-gemm", put("qweight", lambda old: old[0].copy()), r"qweight must be int32 \[., .\]"),
        ("awq-gemm", put("scales", lambda old: old * np.nan), "scales must be finite"),
        ("awq-gemm", put("scales", lambda old: old.astype(np.float64)), "scales must be fp16"),
        (
            "compressed-tensors",
            put("weight_scale", lambda old: old.astype(np.float32) + 1e-7),
            "more range or precision than fp16",
        ),
        (
            "compressed-tensors",
            put("weight_scale", lambda old: old.astype(np.float32) + 1e6),
            "more range or precision than fp16",
        ),
        ("compressed-tensors", put("weight_shape", lambda old: old + 8), "by weight_shape"),
        ("compressed-tensors", put("weight_scale", lambda old: old[0].copy()), "divide K=96"),
        ("canonical", put("zero", lambda old: old + 16), r"zero must be 0\.\.15"),
        ("canonical", put("zero", lambda old: old.astype(np.int32)), "zero must be uint8"),
    ],
)
def test_a_broken_linear_is_named(make_checkpoint, name: str, change, message: str) -> None:
    made = make_checkpoint(name, change=change)
    with pytest.raises(ValueError, match=rf"\[{name}\] model\.layers\.0.*{message}"):
        read_int4(made.directory)


def test_a_group_that_does_not_divide_k_is_named(make_checkpoint) -> None:
    made = make_checkpoint("awq-gemm")
    made.change_config(lambda config: config.update(group_size=128))
    with pytest.raises(ValueError, match="K must be a multiple of group 128, got K=96"):
        read_int4(made.directory)


def without_zeros(parts) -> None:
    parts.pop("weight_zero_point", None)


def test_zero_points_that_are_said_must_be_there(make_checkpoint) -> None:
    made = make_checkpoint("compressed-tensors", symmetric=True, change=without_zeros)
    made.change_config(set_weights(symmetric=False))
    with pytest.raises(ValueError, match=r"weight_zero_point must be there.*symmetric: false"):
        read_int4(made.directory)
    made.change_config(set_weights(symmetric=True))
    assert read_int4(made.directory)[1].quantized.keys() == made.linears.keys()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"group_size": 64}, "each group_size of config.json, 64, got one for each 32 of K=96"),
        ({"group_size": -1}, "got one for each 32 of K=96"),
        ({"strategy": "channel", "group_size": None}, "got one for each 32 of K=96"),
        ({"group_size": "32"}, "group_size must be a whole number or null, got '32'"),
    ],
)
def test_a_group_that_the_scales_do_not_have_is_named(
    make_checkpoint, values, message: str
) -> None:
    made = make_checkpoint("compressed-tensors")
    made.change_config(set_weights(**values))
    with pytest.raises(ValueError, match=message):
        read_int4(made.directory)


def test_a_linear_may_be_of_any_group_of_the_config(make_checkpoint) -> None:
    made = make_checkpoint("compressed-tensors", symmetric=True, change=without_zeros)

    def add(config) -> None:
        group = {"weights": {"num_bits": 4, "group_size": 128, "symmetric": False}}
        config["config_groups"]["group_1"] = group

    made.change_config(add)
    assert read_int4(made.directory)[1].quantized.keys() == made.linears.keys()


def test_a_missing_part_is_named(make_checkpoint) -> None:
    made = make_checkpoint("gptq-v1", change=lambda parts: parts.pop("qzeros"))
    with pytest.raises(ValueError, match=r"\[gptq-v1\] .*down_proj has no qzeros"):
        read_int4(made.directory)


def test_a_checkpoint_without_quantized_tensors_is_named(make_checkpoint) -> None:
    made = make_checkpoint("gptq-v1")
    made.change_config(lambda config: config.update(quant_method="compressed-tensors"))
    made.change_config(lambda config: config.update(format="pack-quantized"))
    groups = {"g": {"weights": {"num_bits": 4}}}
    made.change_config(lambda config: config.update(config_groups=groups))
    with pytest.raises(ValueError, match=r"holds no tensor that ends in \.weight_packed"):
        read_int4(made.directory)


def test_an_unquantized_checkpoint_is_named(make_checkpoint) -> None:
    made = make_checkpoint("gptq-v1")
    config = json.loads((made.directory / "config.json").read_text())
    del config["quantization_config"]
    (made.directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedLayout, match="has no quantization_config"):
        read_int4(made.directory)


def test_v2_zero_points_in_a_file_that_says_v1_are_named(make_checkpoint) -> None:
    made = make_checkpoint("gptq-v2", symmetric=True)
    made.change_config(lambda config: config.update(checkpoint_format="gptq"))
    with pytest.raises(UnsupportedLayout, match=r"stores \[9\]; if it was written as gptq_v2"):
        read_int4(made.directory)


def test_asymmetric_weights_are_not_written_as_compressed_tensors(
    make_checkpoint, tmp_path
) -> None:
    checkpoint = read_int4(make_checkpoint("awq-gemm").directory)[1]
    with pytest.raises(UnsupportedLayout, match=r"down_proj: .*symmetric only.*awq-gemm"):
        write_int4(checkpoint, FORMATS["compressed-tensors"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(make_checkpoint) -> None:
    made = make_checkpoint("awq-gemm")
    with pytest.raises(FileExistsError, match="must be a new or an empty directory"):
        write_int4(read_int4(made.directory)[1], FORMATS["awq-gemm"], made.directory)


def test_a_tied_head_is_not_written_quantized(make_checkpoint, tmp_path) -> None:
    from dataclasses import replace

    checkpoint = read_int4(make_checkpoint("awq-gemm").directory)[1]
    quantized = {**checkpoint.quantized, "lm_head": next(iter(checkpoint.quantized.values()))}
    tied = replace(checkpoint, quantized=quantized, config={"tie_word_embeddings": True})
    with pytest.raises(UnsupportedLayout, match="lm_head is quantized and config"):
        write_int4(tied, FORMATS["awq-gemm"], tmp_path / "out")


@pytest.mark.parametrize("name", ["awq-gemm", "gptq-v1"])
def test_sides_that_fill_no_word_are_named(name: str) -> None:
    from edgebench_kernels.formats import Int4Tensor

    tensor = Int4Tensor(
        qweight=np.zeros((12, 16), np.uint8),
        scale=np.ones((12, 1), np.float16),
        zero=np.full((12, 1), 8, np.uint8),
        group=32,
    )
    with pytest.raises(UnsupportedLayout, match="N to be a multiple of 8, got 12"):
        FORMATS[name].encode(tensor)
