"""What stands between the linears, by the native library: one call an operation."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from edgebench_kernels import native
from edgebench_kernels.engine.cache import KvCache
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.nonlinear import Attention, NormWeight
from edgebench_kernels.engine.rope import Rotations

HEAD_DIM_MULTIPLE = 8  # kHeadDimMultiple of csrc/cpu/step_ops.h
_CELLS = {"fp32": 0, "fp16": 1, "int8": 2}  # enum Cell of csrc/cpu/step_ops.h


def can_run(config: LlamaConfig) -> bool:
    """True when the library is there and knows this head size."""
    return config.head_dim % HEAD_DIM_MULTIPLE == 0 and native.is_available()


class CacheView(ctypes.Structure):
    """`EbCache` of csrc/cpu/doors.h."""

    _fields_ = (
        ("cells", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("rotations", ctypes.c_void_p),
        ("cell", ctypes.c_int64),
        ("layers", ctypes.c_int64),
        ("max_batch", ctypes.c_int64),
        ("max_length", ctypes.c_int64),
        ("heads", ctypes.c_int64),
        ("kv_heads", ctypes.c_int64),
        ("dim", ctypes.c_int64),
    )


def view_of(config: LlamaConfig, cache: KvCache, rotations: Rotations) -> CacheView:
    """The cache as C sees it; cache and rotations must outlive the view."""
    return CacheView(
        cells=cache.store.data_ptr(),
        scales=None if cache.scales is None else cache.scales.data_ptr(),
        rotations=rotations.halves.data_ptr(),
        cell=_CELLS[cache.cell],
        layers=config.layers,
        max_batch=cache.max_batch,
        max_length=cache.max_length,
        heads=config.heads,
        kv_heads=config.kv_heads,
        dim=config.head_dim,
    )


class NativeOps:
    """`nonlinear.StepOps` on the kernels' own thread pool, or on the calling thread alone.

    Each operation writes into one buffer of its own, kept while the number of rows stays the same:
    what it returned last is overwritten by its next call.
    """

    def __init__(
        self,
        config: LlamaConfig,
        cache: KvCache,
        rotations: Rotations,
        *,
        is_alone: bool = False,
    ) -> None:
        self.is_alone = is_alone
        self._config, self._cache, self._rotations = config, cache, rotations
        self._view = view_of(config, cache, rotations)
        self._library = native.library()
        self._eps = config.rms_norm_eps
        self._buffers: dict[str, Tensor] = {}

    def add_norm(self, x: Tensor, delta: Tensor | None, weight: NormWeight) -> Tensor:
        """See StepOps."""
        rows, n = _matrix("x", x, self._config.hidden_size)
        if delta is not None and _matrix("delta", delta, n) != (rows, n):
            raise ValueError(f"[add_norm] delta must be [{rows}, {n}], got {list(delta.shape)}")
        y = self._buffer("norm", rows, n)
        error = self._library.eb_add_norm(
            self.is_alone,
            rows,
            n,
            x.data_ptr(),
            None if delta is None else delta.data_ptr(),
            weight.plain.data_ptr(),
            self._eps,
            y.data_ptr(),
        )
        native.check(error, "add_norm", f"x [{rows}, {n}]")
        return y

    def swiglu(self, gate_up: Tensor) -> Tensor:
        """See StepOps."""
        rows, width = _matrix("gate_up", gate_up, 2 * self._config.intermediate_size)
        y = self._buffer("swiglu", rows, width // 2)
        error = self._library.eb_swiglu(
            self.is_alone, rows, width // 2, gate_up.data_ptr(), y.data_ptr()
        )
        native.check(error, "swiglu", f"gate_up [{rows}, {width}]")
        return y

    def token_attention(self) -> Attention:
        """See StepOps."""
        return self._attention(self._cache.advance(), self._cache.batch, None)

    def prompt_attention(self, lengths: list[int]) -> Attention:
        """See StepOps."""
        counts = torch.tensor(lengths, dtype=torch.int32)
        return self._attention(self._cache.length - 1, sum(lengths), counts)

    def _attention(self, column: int, rows: int, counts: Tensor | None) -> Attention:
        config, batch = self._config, self._cache.batch
        mixed = self._buffer("attention", rows, config.query_size)
        width = config.qkv_heads * config.head_dim
        is_alone = self.is_alone
        view, door = ctypes.byref(self._view), self._library.eb_attention
        starts, out = self._cache.starts.data_ptr(), mixed.data_ptr()

        def attend(layer: int, qkv: Tensor) -> Tensor:
            if _matrix("qkv", qkv, width)[0] != rows:
                raise ValueError(f"[attention] qkv must have {rows} rows, got {list(qkv.shape)}")
            count = None if counts is None else counts.data_ptr()
            error = door(is_alone, view, layer, batch, column, starts, count, qkv.data_ptr(), out)
            native.check(error, "attention", f"layer {layer}, batch {batch}, column {column}")
            return mixed

        return attend

    def _buffer(self, name: str, rows: int, width: int) -> Tensor:
        kept = self._buffers.get(name)
        if kept is None or kept.shape[0] != rows:
            kept = torch.empty(rows, width)
            self._buffers[name] = kept
        return kept


def _matrix(name: str, x: Tensor, width: int) -> tuple[int, int]:
    """(rows, width) of a f32 [rows, width] that C can read; ValueError for any other."""
    if x.dtype is not torch.float32 or x.dim() != 2 or x.shape[1] != width:
        raise ValueError(
            f"[native ops] {name} must be float32 [rows, {width}], got {x.dtype} {list(x.shape)}"
        )
    if not x.is_contiguous() or x.device.type != "cpu":
        raise ValueError(
            f"[native ops] {name} must be contiguous on the CPU, got strides {list(x.stride())} "
            f"on {x.device}; call .contiguous()"
        )
    return x.shape[0], width
