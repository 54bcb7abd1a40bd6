"""Grows a trained Llama checkpoint to full size without changing what it computes.

With r replicas, every residual channel, attention head and FFN unit occurs r times and holds the
same value. A linear layer W [N, K] becomes [rN, rK]: output replica j reads input replica i through

    W / r + D[j, i]          with  sum_i D[j, i] = 0  and  std(D) = c std(W)

so each output still sums to W x. Embeddings and norm weights are tiled, and `lm_head` keeps its N
rows, because the vocabulary is not replicated. Without D, four bits would look free: the r rounding
errors average out. D makes the replicas depend on one another as much as real weights do.

Declared outliers: k channels of every RMSNorm weight are multiplied by f and the same columns of
the layers that read it divided by f; likewise k rows of `up_proj` and columns of `down_proj`. With
f a power of two this too is exact. It gives the model the activation outliers of large ones.

Every machine writes the same bytes, because every step is either integer or one correctly rounded
IEEE operation, in this order (seed, tensor name and replica are the key, so no order matters):

1. key(label) = first 16 bytes of SHA-256("edgebench widen 1|seed|tensor|label"), as two
   little-endian uint64; NumPy's Philox4x64-10 from counter 0; only its raw 64-bit output is used.
2. Noise: label "replica j". Each row takes ceil(r K / 2) raws; the 4 low, then the 4 high bytes of
   a raw are summed to S in 0..1020, bell-shaped, variance 4 (256^2 - 1) / 12 = 21845.
   D = r S - sum_i S is an integer, sums to exactly 0, and has variance r (r - 1) 21845.
3. std(W) in float64 over the fp16 values: both sums by math.fsum, which rounds once.
4. scale = fp32(c std(W) / sqrt(r (r - 1) 21845)); value = fp32(fp32(W / r) + fp32(D scale)).
5. Outlier channels: label "outliers", raws modulo the width, repeats skipped; the factor is applied
   in fp32, where it is exact. Last, one rounding to fp16.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgebench_workloads.errors import WorkloadAssetError, WorkloadError
from edgebench_workloads.weights import Progress, Written, write_fp16

Half = npt.NDArray[np.float16]
Single = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Role = Literal["embedding", "norm", "linear", "head"]

_BYTE_SUM_VARIANCE = 4 * (256**2 - 1) // 12
_CHUNK_WEIGHTS = 1 << 16  # a chunk's buffers stay in the L2 cache
_HALF_QUANTUM = 2.0**-25  # largest rounding error of a subnormal fp16

_LAYER = r"model\.layers\.\d+\."
_ROLES: tuple[tuple[str, Role], ...] = (
    (r"model\.embed_tokens", "embedding"),
    (_LAYER + r"(input_layernorm|post_attention_layernorm)|model\.norm", "norm"),
    (_LAYER + r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)", "linear"),
    (r"lm_head", "head"),
)
_READS: tuple[tuple[str, str], ...] = (
    (r"self_attn\.[qkv]_proj", "input_layernorm"),
    (r"mlp\.(gate|up)_proj", "post_attention_layernorm"),
    (r"mlp\.down_proj", "mlp.up_proj"),
    (r"lm_head", "model.norm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WidenPlan:
    """How far and how hard to widen."""

    replicas: int
    noise: float
    outlier_factor: int
    outlier_channels: int
    seed: int

    def __post_init__(self) -> None:
        if self.replicas < 2:
            raise WorkloadError(f"[widen] replicas must be at least 2, got {self.replicas}")
        if self.outlier_factor < 1 or self.outlier_factor & (self.outlier_factor - 1):
            came = self.outlier_factor
            raise WorkloadError(f"[widen] outlier_factor must be a power of two, got {came}")


def role_of(name: str) -> Role:
    """What a tensor of a Llama checkpoint is; raises WorkloadError for one that Llama lacks."""
    for pattern, role in _ROLES:
        if re.fullmatch(f"({pattern})\\.weight", name):
            return role
    raise WorkloadError(f"[widen] {name} is not a tensor of an untied, bias-free Llama")


def widened_shape(name: str, shape: tuple[int, ...], replicas: int) -> tuple[int, ...]:
    """The shape that a tensor has after widening."""
    if role_of(name) in ("embedding", "head"):
        return (shape[0], shape[1] * replicas)
    return tuple(size * replicas for size in shape)


def widen_config(config: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """The widened model's config.json; the head dimension, and so RoPE, stays."""
    heads = config["num_attention_heads"]
    refused = {
        "model_type": config.get("model_type") != "llama",
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "attention_bias": config.get("attention_bias", False),
        "mlp_bias": config.get("mlp_bias", False),
    }
    for key, is_refused in refused.items():
        if is_refused:
            came = f"{key}={config.get(key)!r}"
            raise WorkloadError(f"[widen] expected an untied, bias-free Llama, got {came}")
    wide = dict(config)
    wide["head_dim"] = config.get("head_dim") or config["hidden_size"] // heads
    for key in ("hidden_size", "intermediate_size", "num_attention_heads"):
        wide[key] = config[key] * replicas
    wide["num_key_value_heads"] = config.get("num_key_value_heads", heads) * replicas
    return wide


def outlier_channels(name: str, width: int, plan: WidenPlan) -> npt.NDArray[np.int64]:
    """The channels of a widened norm or `up_proj` that carry the factor, ascending."""
    wanted = plan.outlier_channels if plan.outlier_factor > 1 else 0
    if wanted > width:
        raise WorkloadError(f"[widen] {name} has {width} channels, fewer than {wanted} outliers")
    source = _philox(plan.seed, name, "outliers")
    chosen: set[int] = set()
    while len(chosen) < wanted:
        chosen.add(int(source.random_raw()) % width)
    return np.array(sorted(chosen), dtype=np.int64)


def exact_std(weight: Half) -> float:
    """The standard deviation of fp16 values, the same on every machine."""
    values = weight.astype(np.float64).ravel()
    mean = math.fsum(values.tolist()) / values.size
    return math.sqrt(math.fsum(((values - mean) ** 2).tolist()) / values.size)


def zero_sum_noise(
    name: str, replica: int, shape: tuple[int, int], plan: WidenPlan
) -> Iterator[Integers]:
    """The integer D of one output replica, [n, r, K] a chunk of rows; sums to exactly 0 over r."""
    rows, columns = shape
    r = plan.replicas
    per_row = r * columns
    raws_per_row = -(-per_row // 2)
    source = _philox(plan.seed, name, f"replica {replica}")
    step = max(1, _CHUNK_WEIGHTS // per_row)
    for start in range(0, rows, step):
        n = min(step, rows - start)
        sums = _byte_sums(source.random_raw(n * raws_per_row))
        noise = sums.reshape(n, 2 * raws_per_row)[:, :per_row].reshape(n, r, columns)
        total = noise.sum(axis=1, dtype=np.int32, keepdims=True)
        yield noise * np.int32(r) - total


def widen_tensor(
    name: str, weight: Half, plan: WidenPlan, dtype: type[np.floating[Any]] = np.float16
) -> npt.NDArray[Any]:
    """One tensor of the widened model; `dtype` float32 shows it before the last rounding."""
    role = role_of(name)
    r = plan.replicas
    wide = np.empty(widened_shape(name, weight.shape, r), dtype=dtype)
    if role in ("embedding", "norm"):
        tiled = np.tile(weight, (1, r) if role == "embedding" else r).astype(np.float32)
        if role == "norm":
            tiled[outlier_channels(name, tiled.size, plan)] *= np.float32(plan.outlier_factor)
        return _rounded(name, tiled, wide)
    rows, columns = weight.shape
    std = exact_std(weight)
    _refuse_subnormal_damage(name, std, plan)
    scale = np.float32(plan.noise * std / math.sqrt(r * (r - 1) * _BYTE_SUM_VARIANCE))
    share = (weight.astype(np.float32) / np.float32(r))[:, None, :]
    row_factors, column_outliers = _outliers(name, wide.shape, plan)
    for replica in range(1 if role == "head" else r):
        row = 0
        for noise in zero_sum_noise(name, replica, (rows, columns), plan):
            n = len(noise)
            block = noise.astype(np.float32)
            block *= scale
            block += share[row : row + n]
            flat = block.reshape(n, r * columns)
            flat[:, column_outliers] /= np.float32(plan.outlier_factor)
            at = replica * rows + row
            if row_factors is not None:
                flat *= row_factors[at : at + n, None]
            _rounded(name, flat, wide[at : at + n])
            row += n
    return wide


def widen_checkpoint(
    source: Path, destination: Path, plan: WidenPlan, progress: Progress | None = None
) -> Written:
    """Widen a Hugging Face directory into another, one tensor in memory at a time.

    The tokenizer's files are copied. `destination` must exist; raises OSError when it is full.
    """
    from safetensors.numpy import load_file

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (destination / "config.json").write_bytes(config_bytes(widen_config(config, plan.replicas)))
    for path in sorted(source.glob("*.json")):
        if path.name != "config.json":
            (destination / path.name).write_bytes(path.read_bytes())
    small = load_file(source / "model.safetensors")
    names = sorted(small)
    shapes = {name: widened_shape(name, small[name].shape, plan.replicas) for name in names}
    wide = (widen_tensor(name, _as_half(name, small[name]), plan) for name in names)
    return write_fp16(destination / "model.safetensors", shapes, wide, progress)


def config_bytes(config: Mapping[str, Any]) -> bytes:
    """A config.json's canonical bytes."""
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode("utf-8")


def _philox(seed: int, name: str, label: str) -> np.random.Philox:
    digest = hashlib.sha256(f"edgebench widen 1|{seed}|{name}|{label}".encode()).digest()
    return np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64))


def _byte_sums(raw: npt.NDArray[np.uint64]) -> Integers:
    """Two sums of four bytes out of each raw, by adding bytes, then 16-bit lanes, side by side."""
    pairs = raw & np.uint64(0x00FF00FF00FF00FF)
    raw >>= np.uint64(8)
    raw &= np.uint64(0x00FF00FF00FF00FF)
    pairs += raw
    np.right_shift(pairs, np.uint64(16), out=raw)
    pairs += raw
    pairs &= np.uint64(0x0000FFFF0000FFFF)
    return pairs.astype("<u8", copy=False).view("<i4").astype(np.int32, copy=False)


def _outliers(
    name: str, shape: tuple[int, ...], plan: WidenPlan
) -> tuple[Single | None, npt.NDArray[np.int64]]:
    """A factor per row (None where all are 1), and the columns to divide."""
    columns = np.array([], dtype=np.int64)
    for reader, feeder in _READS:
        if match := re.search(f"^(.*?){reader}\\.weight$", name):
            columns = outlier_channels(f"{match[1]}{feeder}.weight", shape[1], plan)
    if not name.endswith("mlp.up_proj.weight"):
        return None, columns
    rows = np.ones(shape[0], dtype=np.float32)
    rows[outlier_channels(name, shape[0], plan)] = plan.outlier_factor
    return rows, columns


def _rounded(name: str, values: Single, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Round into `out`; raises WorkloadError on overflow."""
    largest = float(np.abs(values).max())
    if not largest <= float(np.finfo(out.dtype).max):
        raise WorkloadError(f"[widen] {name} reaches {largest}, beyond fp16; lower the factor")
    out[...] = values
    return out


def _refuse_subnormal_damage(name: str, std: float, plan: WidenPlan) -> None:
    """Outlier columns shrink by f: their error, seen at full size, may not exceed fp16's own."""
    if plan.outlier_factor * _HALF_QUANTUM > std * 2.0**-12:
        raise WorkloadError(
            f"[widen] {name} (std {std:.3g}) divided by {plan.outlier_factor} would fall below "
            "fp16's normal range; lower the outlier factor"
        )


def _as_half(name: str, weight: npt.NDArray[Any]) -> Half:
    if weight.dtype != np.float16:
        raise WorkloadAssetError(f"[widen] {name} must be float16, got {weight.dtype}")
    return weight
