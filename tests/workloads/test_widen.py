"""Widening keeps the function, writes the same bytes everywhere, and does what its plan says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebench_workloads.errors import WorkloadAssetError, WorkloadError
from edgebench_workloads.weights import sha256_of
from edgebench_workloads.widen import (
    WidenPlan,
    exact_std,
    outlier_channels,
    role_of,
    widen_checkpoint,
    widen_config,
    widen_tensor,
    widened_shape,
    zero_sum_noise,
)

GATE = "model.layers.0.mlp.gate_proj.weight"
UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"
NORM = "model.layers.1.post_attention_layernorm.weight"


def plan(**changes: Any) -> WidenPlan:
    values: dict[str, Any] = {
        "replicas": 4,
        "noise": 0.7,
        "outlier_factor": 16,
        "outlier_channels": 3,
        "seed": 7,
    }
    return WidenPlan(**(values | changes))


# ------------------------------------------------------------------------------- the function stays


@pytest.mark.torch
@pytest.mark.parametrize("replicas", [2, 3, 4])
@pytest.mark.parametrize("factor", [1, 16])
def test_logits_agree_before_fp16_rounding(
    tiny_tensors: dict[str, Any], tiny_config: dict[str, Any], replicas: int, factor: int
) -> None:
    # The only roundings are fp32's in W/r and D: relative 2^-24 a weight, so about 1e-6 in logits
    # of order 1; fp16's would be 2^13 times that, so this bound tells them apart.
    import torch

    settings = plan(replicas=replicas, outlier_factor=factor)
    wide = {name: widen_tensor(name, w, settings, np.float32) for name, w in tiny_tensors.items()}
    ids = torch.arange(60).reshape(3, 20) * 11 % 40
    small_logits = _logits(tiny_config, tiny_tensors, ids)
    wide_logits = _logits(widen_config(tiny_config, replicas), wide, ids)
    assert small_logits.std() > 0.1
    assert (small_logits - wide_logits).abs().max() < 2e-5


@pytest.mark.torch
def test_fp16_rounding_moves_the_logits_little(
    tiny_tensors: dict[str, Any], tiny_config: dict[str, Any]
) -> None:
    import torch

    ids = torch.arange(60).reshape(3, 20) * 11 % 40
    wide = {name: widen_tensor(name, w, plan(noise=0.5)) for name, w in tiny_tensors.items()}
    small_logits = _logits(tiny_config, tiny_tensors, ids)
    wide_logits = _logits(widen_config(tiny_config, 4), wide, ids)
    assert (small_logits - wide_logits).std() < 0.01 * small_logits.std()


def _logits(config: dict[str, Any], tensors: dict[str, Any], ids: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**config)).double().eval()
    state = {name: torch.from_numpy(w.astype(np.float64)) for name, w in tensors.items()}
    model.load_state_dict(state)
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("replicas", [2, 3, 8])
def test_noise_sums_to_exactly_zero(replicas: int) -> None:
    settings = plan(replicas=replicas)
    chunks = list(zero_sum_noise(GATE, 1, (300, 33), settings))
    noise = np.concatenate(chunks)
    assert noise.shape == (300, replicas, 33)
    assert len(chunks) > 1 or replicas < 8  # rows of several chunks are covered
    assert not noise.sum(axis=1).any()
    assert noise.any(axis=(0, 1)).all()


@pytest.mark.parametrize("replicas", [2, 3, 4])
def test_blocks_sum_to_the_weight(tiny_tensors: dict[str, Any], replicas: int) -> None:
    # Each of r values rounds to fp16 once: at most r * max|value| * 2^-11 away.
    weight = tiny_tensors[GATE]
    wide = widen_tensor(GATE, weight, plan(replicas=replicas, outlier_factor=1))
    blocks = wide.astype(np.float64).reshape(replicas, 48, replicas, 32)
    bound = replicas * np.abs(blocks).max() * 2.0**-11
    assert np.abs(blocks.sum(axis=2) - weight.astype(np.float64)).max() <= bound


# ------------------------------------------------------------------------------- what the plan says


def test_noise_has_the_declared_deviation() -> None:
    # 512 x 512 draws: the sample deviation is within 1 % by more than five of its own deviations.
    weight = (np.sin(np.arange(128 * 128) * 0.7).reshape(128, 128) * 0.1).astype(np.float16)
    wide = widen_tensor(GATE, weight, plan(outlier_factor=1), np.float32).reshape(4, 128, 4, 128)
    noise = wide - weight.astype(np.float32)[None, :, None, :] / 4
    assert noise.std() == pytest.approx(0.7 * exact_std(weight), rel=0.01)
    independent = np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]
    assert abs(independent) < 0.02


def test_exact_std_is_the_deviation(tiny_tensors: dict[str, Any]) -> None:
    weight = tiny_tensors[UP]
    assert exact_std(weight) == pytest.approx(float(weight.astype(np.float64).std()), rel=1e-12)
    assert exact_std(weight) == exact_std(weight[::-1, ::-1])


def test_outliers_scale_norm_and_its_readers(tiny_tensors: dict[str, Any]) -> None:
    plain, scaled = plan(outlier_factor=1), plan()
    channels = outlier_channels(NORM, 128, scaled)
    assert len(set(channels.tolist())) == 3
    norm = widen_tensor(NORM, tiny_tensors[NORM], scaled).astype(np.float32)
    flat = widen_tensor(NORM, tiny_tensors[NORM], plain).astype(np.float32)
    ratio = norm / flat
    assert np.array_equal(np.flatnonzero(ratio != 1), channels)
    assert (ratio[channels] == 16).all()
    reader = NORM.replace("post_attention_layernorm", "mlp.gate_proj")
    before = widen_tensor(reader, tiny_tensors[reader], plain, np.float32)
    after = widen_tensor(reader, tiny_tensors[reader], scaled, np.float32)
    assert np.array_equal(after[:, channels] * 16, before[:, channels])
    rest = np.setdiff1d(np.arange(128), channels)
    assert np.array_equal(after[:, rest], before[:, rest])


def test_outliers_scale_up_rows_and_down_columns(tiny_tensors: dict[str, Any]) -> None:
    up = DOWN.replace("down_proj", "up_proj")
    rows = outlier_channels(up, 192, plan())
    off = plan(outlier_factor=1)
    raised = widen_tensor(up, tiny_tensors[up], plan(), np.float32)
    base = widen_tensor(up, tiny_tensors[up], off, np.float32)
    ordinary = np.setdiff1d(
        np.arange(128),
        outlier_channels(up.replace("mlp.up_proj", "post_attention_layernorm"), 128, plan()),
    )
    assert np.array_equal(raised[rows][:, ordinary], 16 * base[rows][:, ordinary])
    lowered = widen_tensor(DOWN, tiny_tensors[DOWN], plan(), np.float32)
    whole = widen_tensor(DOWN, tiny_tensors[DOWN], off, np.float32)
    assert np.array_equal(lowered[:, rows] * 16, whole[:, rows])


def test_embeddings_are_tiled_and_the_vocabulary_is_not(tiny_tensors: dict[str, Any]) -> None:
    name = "model.embed_tokens.weight"
    embedding = tiny_tensors[name]
    wide = widen_tensor(name, embedding, plan())
    assert np.array_equal(wide, np.concatenate([embedding] * 4, axis=1))
    assert widened_shape("lm_head.weight", (40, 32), 4) == (40, 128)
    assert widened_shape(GATE, (48, 32), 4) == (192, 128)


def test_config_keeps_the_head_dimension(tiny_config: dict[str, Any]) -> None:
    wide = widen_config(tiny_config, 4)
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    assert [wide[key] for key in sizes] == [128, 192, 16, 8]
    assert wide["head_dim"] == 8
    del tiny_config["head_dim"]
    assert widen_config(tiny_config, 4)["head_dim"] == 8


# -------------------------------------------------------------------------- the same bytes anywhere


def test_golden_checkpoint(tiny_directory: Path, tmp_path: Path) -> None:
    # Pinned task files rest on these bytes. To change them on purpose, change the key's label in
    # widen.py, run this test, copy the hash it prints, and pin again.
    small = sha256_of(tiny_directory / "model.safetensors")
    assert small == "631816c2aa7796a5605563e55d887aea02c945c135c9c558f5ec6c92e1380526"
    target = tmp_path / "wide"
    target.mkdir()
    written = widen_checkpoint(tiny_directory, target, plan())
    assert written.sha256 == sha256_of(target / "model.safetensors")
    assert written.size_bytes == (target / "model.safetensors").stat().st_size
    assert written.sha256 == "44012f3fe38e90b6dfa6656cf04fa7499610fcc9c80854c104917d1191bb0b8b"


@pytest.mark.parametrize("replicas", [3, 16])
def test_golden_tensor(tiny_tensors: dict[str, Any], replicas: int) -> None:
    wide = widen_tensor(UP, tiny_tensors[UP], plan(replicas=replicas))
    golden = {3: "24ec78df895e18d2", 16: "b2f74f5bcf6522ec"}
    assert hashlib.sha256(wide.tobytes()).hexdigest()[:16] == golden[replicas]


def test_order_and_chunks_do_not_matter(
    tiny_tensors: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(tiny_tensors)
    forward = {name: widen_tensor(name, tiny_tensors[name], plan()) for name in names}
    monkeypatch.setattr("edgebench_workloads.widen._CHUNK_WEIGHTS", 1)
    backward = {name: widen_tensor(name, tiny_tensors[name], plan()) for name in reversed(names)}
    assert all(np.array_equal(forward[name], backward[name]) for name in names)


def test_seed_and_name_matter(tiny_tensors: dict[str, Any]) -> None:
    weight = tiny_tensors[GATE]
    base = widen_tensor(GATE, weight, plan(outlier_factor=1))
    other_seed = widen_tensor(GATE, weight, plan(outlier_factor=1, seed=8))
    other_name = widen_tensor(UP, weight, plan(outlier_factor=1))
    assert not np.array_equal(base, other_seed)
    assert not np.array_equal(base, other_name)
    assert not np.array_equal(base[:48], base[48:96])  # replicas differ from one another


@pytest.mark.torch
def test_transformers_loads_the_widened_directory(tiny_directory: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import LlamaForCausalLM

    target = tmp_path / "wide"
    target.mkdir()
    seen: list[tuple[int, int]] = []
    written = widen_checkpoint(
        tiny_directory, target, plan(replicas=2), lambda *at: seen.append(at)
    )
    assert seen[-1] == (written.size_bytes, written.size_bytes)
    assert seen == sorted(seen)
    model, report = LlamaForCausalLM.from_pretrained(target, output_loading_info=True)
    assert not any(report.values())
    loaded = load_file(target / "model.safetensors")
    assert model.config.hidden_size == 64
    assert set(loaded) == set(model.state_dict())
    assert sorted(p.name for p in target.glob("*.json")) == sorted(
        p.name for p in tiny_directory.glob("*.json")
    )


# ---------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replicas": 1}, "replicas must be at least 2, got 1"),
        ({"outlier_factor": 12}, "outlier_factor must be a power of two, got 12"),
        ({"outlier_factor": 0}, "outlier_factor must be a power of two, got 0"),
    ],
)
def test_impossible_plans(changes: dict[str, int], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        plan(**changes)


def test_foreign_tensors_are_refused() -> None:
    assert role_of("model.layers.11.self_attn.q_proj.weight") == "linear"
    for name in ("model.layers.0.self_attn.q_proj.bias", "transformer.wte.weight"):
        with pytest.raises(WorkloadError, match="not a tensor of an untied, bias-free Llama"):
            role_of(name)


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_type", "gpt2"), ("tie_word_embeddings", True), ("attention_bias", True)],
)
def test_foreign_models_are_refused(tiny_config: dict[str, Any], key: str, value: Any) -> None:
    with pytest.raises(WorkloadError, match=f"untied, bias-free Llama, got {key}={value!r}"):
        widen_config(tiny_config | {key: value}, 2)


def test_overflow_is_refused() -> None:
    large = np.full(8, 5000, dtype=np.float16)
    with pytest.raises(WorkloadError, match=r"reaches 80000\.0, beyond fp16"):
        widen_tensor("model.norm.weight", large, plan(replicas=2))


def test_nan_is_refused() -> None:
    broken = np.full(8, np.nan, dtype=np.float16)
    with pytest.raises(WorkloadError, match="reaches nan"):
        widen_tensor("model.norm.weight", broken, plan(replicas=2))


def test_subnormal_damage_is_refused() -> None:
    faint = (np.arange(64).reshape(8, 8) * 1e-6).astype(np.float16)
    with pytest.raises(WorkloadError, match="below fp16's normal range"):
        widen_tensor(GATE, faint, plan())


def test_more_outliers_than_channels_are_refused() -> None:
    with pytest.raises(WorkloadError, match="has 8 channels, fewer than 9 outliers"):
        outlier_channels("model.norm.weight", 8, plan(outlier_channels=9))


def test_full_precision_sources_are_refused(tiny_directory: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = tiny_directory / "model.safetensors"
    save_file({name: w.astype(np.float32) for name, w in load_file(path).items()}, path)
    with pytest.raises(WorkloadAssetError, match="must be float16, got float32"):
        widen_checkpoint(tiny_directory, tmp_path, plan())


def test_header_follows_the_format(tiny_directory: Path) -> None:
    raw = (tiny_directory / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert (8 + length) % 8 == 0
    assert header.pop("__metadata__") == {"format": "pt"}
    ends = [entry["data_offsets"] for entry in header.values()]
    assert [start for start, _ in ends] == [0, *(end for _, end in ends[:-1])]
    assert 8 + length + ends[-1][1] == len(raw)
