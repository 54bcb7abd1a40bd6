"""The kernels between a model's linears, called on tensors."""

from __future__ import annotations

from torch import Tensor

from edgebench_kernels.cuda import step_geometry
from edgebench_kernels.cuda.engine_state import GpuCache, RowState
from edgebench_kernels.cuda.launcher import Launcher
from edgebench_kernels.cuda.step_geometry import (
    DELTA_HALF,
    DELTA_NONE,
    EIGHT,
    HEAD_MULTIPLE,
    LARGEST_HEAD,
    DecodeAttention,
)
from edgebench_kernels.engine.config import LlamaConfig

NO_END = -1  # the host decides which rows end


def check_shape(config: LlamaConfig) -> None:
    """Raise ValueError for a model that the kernels cannot run."""
    for is_there, what in (
        (config.has_qkv_bias, "biases of q, k and v (Qwen2)"),
        (config.has_head_norms, "norms of q's and k's heads (Qwen3)"),
    ):
        if is_there:
            raise ValueError(f"[engine] GPU kernels have no {what}; use device='cpu'")
    for name in ("hidden_size", "intermediate_size"):
        if getattr(config, name) % EIGHT:
            raise ValueError(
                f"[engine] GPU kernels need {name} to be a multiple of {EIGHT}, got "
                f"{getattr(config, name)}; use device='cpu'"
            )
    if config.head_dim % HEAD_MULTIPLE or config.head_dim > LARGEST_HEAD:
        raise ValueError(
            f"[engine] GPU kernels need head_dim to be a multiple of {HEAD_MULTIPLE} up to "
            f"{LARGEST_HEAD}, got {config.head_dim}; use device='cpu'"
        )


class StepKernels:
    """Each starts behind what was started before; activations are rows [S, ...] of one launch."""

    def __init__(self, launcher: Launcher, config: LlamaConfig, cache: GpuCache) -> None:
        self._launcher, self._config, self._cache = launcher, config, cache

    def embed(self, ids: Tensor, table: Tensor, x: Tensor, status: Tensor | None) -> None:
        """x f32 [S, C] = the embedding's rows of ids int64 [S]."""
        sizes = (self._config.hidden_size, self._config.vocab_size)
        self._launcher.run(step_geometry.embed(len(ids)), [ids, table, x, status, *sizes])

    def norm(self, x: Tensor, delta: Tensor | None, weight: Tensor, y: Tensor) -> None:
        """x f32 [S, C] += delta fp16, in place; y fp16 = RMSNorm(x)."""
        rows, width = x.shape
        kind = DELTA_NONE if delta is None else DELTA_HALF
        self._launcher.run(
            step_geometry.rms_norm(rows, width, delta=kind),
            [x, delta, weight, y, None, None, None, rows, width, self._config.rms_norm_eps],
            overlap=True,
        )

    def rope_append(self, layer: int, qkv: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Rotate queries and keys of prompts in place, and put keys and values into the cache."""
        cache = self._cache
        self._launcher.run(
            step_geometry.rope_append(len(qkv), self._attention(len(qkv), 1)),
            [
                *(qkv, *cache.layer(layer), cache.rotations, cache.starts, rows, columns),
                *self._cache_sizes(),
            ],
            overlap=True,
        )

    def attention(self, layer: int, qkv: Tensor, columns: Tensor, mixed: Tensor) -> None:
        """Rotate, append and attend, one new token a row; mixed fp16 [S, H D]."""
        launcher, cache = self._launcher, self._cache
        attention = self._attention(len(qkv), 1)
        splits = step_geometry.attention_splits(
            attention, cache.max_length, launcher.multiprocessors
        )
        plan = step_geometry.decode_attention(self._attention(len(qkv), splits))
        launcher.run(
            plan,
            [
                *(qkv, *cache.layer(layer), cache.rotations, cache.starts, columns, mixed),
                *(*launcher.scratch.of(plan), *self._cache_sizes(), self._config.head_dim**-0.5),
            ],
            overlap=True,
        )

    def choose(self, logits: Tensor, rows: RowState) -> None:
        """The most likely token of each row of logits fp16 or fp32 [S, V], into the rows' state."""
        count, width = logits.shape
        self._launcher.run(
            step_geometry.argmax(count, width, is_float=logits.element_size() == 4),
            [logits, rows.ids, rows.status, rows.best, rows.argmax_counters, width],
            overlap=True,
        )

    def advance(self, rows: RowState, count: int) -> None:
        """Keep the chosen tokens of the first `count` rows, and go to their next columns."""
        length = self._cache.max_length
        self._launcher.run(
            step_geometry.advance(),
            [
                *(rows.ids, rows.columns, rows.counts, rows.finished, rows.status),
                *(rows.output, rows.remaining, count, length, length, NO_END),
            ],
            overlap=True,
        )

    def _attention(self, rows: int, splits: int) -> DecodeAttention:
        return DecodeAttention(
            rows=rows,
            heads=self._config.heads,
            kv_heads=self._config.kv_heads,
            head_dim=self._config.head_dim,
            splits=splits,
            is_int8=self._cache.scales is not None,
        )

    def _cache_sizes(self) -> tuple[int, int, int, int]:
        config, cache = self._config, self._cache
        return cache.max_batch, config.heads, config.kv_heads, cache.max_length
