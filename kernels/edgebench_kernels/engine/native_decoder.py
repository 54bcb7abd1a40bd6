"""One native call per decode step: every layer, the head and the greedy choice, over packed INT4."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from edgebench_kernels import native
from edgebench_kernels.engine.arithmetic import PathChoice
from edgebench_kernels.engine.cache import KvCache
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.native_ops import CacheView, view_of
from edgebench_kernels.engine.nonlinear import NormWeight
from edgebench_kernels.engine.rope import Rotations
from edgebench_kernels.packing import PackedInt4

_FAMILIES = {"w4a8": 0, "w4a16": 1}  # enum Family of csrc/cpu/ops.h
_PARTS = ("qkv", "o", "gate_up", "down")


class _Layer(ctypes.Structure):
    """`EbLayer` of csrc/cpu/doors.h."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in (*_PARTS, "attention_norm", "mlp_norm"))


class _Model(ctypes.Structure):
    """`EbModel` of csrc/cpu/doors.h."""

    _fields_ = (
        ("embedding", ctypes.c_void_p),
        ("layers", ctypes.POINTER(_Layer)),
        ("final_norm", ctypes.c_void_p),
        ("lm_head", ctypes.c_void_p),
        ("vocabulary", ctypes.c_int64),
        ("hidden", ctypes.c_int64),
        ("inner", ctypes.c_int64),
        ("eps", ctypes.c_float),
        ("cache", CacheView),
    )


class NativeDecoder:
    """Decode steps of a model whose linears are all packed INT4, on the cache that it is given.

    `packed` maps each of `fused_linears(config)` to its weights; norms are (attention, mlp) per
    layer, then the final one; the embedding is fp16 [V, C].
    """

    def __init__(
        self,
        config: LlamaConfig,
        packed: Mapping[str, PackedInt4],
        paths: PathChoice,
        norms: tuple[Sequence[tuple[NormWeight, NormWeight]], NormWeight],
        embedding: Tensor,
        cached: tuple[KvCache, Rotations],
    ) -> None:
        if embedding.dtype is not torch.float16 or not embedding.is_contiguous():
            raise ValueError(
                f"[engine] the embedding must be contiguous fp16, got {embedding.dtype} with "
                f"strides {list(embedding.stride())}"
            )
        self._cache, rotations = cached
        self._paths = paths
        self._vocabulary = config.vocab_size
        self._kept = (dict(packed), norms, embedding, rotations)  # what C points to
        layer_norms, final_norm = norms
        layers = (_Layer * config.layers)()
        for index, (attention_norm, mlp_norm) in enumerate(layer_norms):
            for part in _PARTS:
                setattr(layers[index], part, packed[f"layers.{index}.{part}"].handle)
            layers[index].attention_norm = attention_norm.plain.data_ptr()
            layers[index].mlp_norm = mlp_norm.plain.data_ptr()
        model = _Model(
            embedding=embedding.data_ptr(),
            layers=layers,
            final_norm=final_norm.plain.data_ptr(),
            lm_head=packed["lm_head"].handle,
            vocabulary=config.vocab_size,
            hidden=config.hidden_size,
            inner=config.intermediate_size,
            eps=config.rms_norm_eps,
            cache=view_of(config, self._cache, rotations),
        )
        library = native.library()
        handle = ctypes.c_void_p()
        native.check(
            library.eb_decoder_new(ctypes.byref(model), ctypes.byref(handle)), "engine", f"{config}"
        )
        self._handle = int(handle.value or 0)
        self._step = library.eb_decoder_step
        self._free = weakref.finalize(self, library.eb_decoder_free, self._handle)
        self._free.atexit = False  # the process's end frees it; other threads may still compute
        self._starts = self._cache.starts.data_ptr()
        self._ids = (ctypes.c_int64 * self._cache.max_batch)()

    def logits(self, ids: Tensor) -> Tensor:
        """Append one token per row, int [B]; the next logits f32 [B, V]."""
        tokens = ids.to(torch.int64).contiguous()
        logits = torch.empty(len(tokens), self._vocabulary)
        self._run(len(tokens), tokens.data_ptr(), logits.data_ptr(), None)
        return logits

    def greedy(self, tokens: Sequence[int]) -> list[int]:
        """Append one token per row and return the most likely next ones.

        Raises FloatingPointError when a row's largest logit is not finite.
        """
        batch = len(tokens)
        self._ids[:batch] = tokens
        self._run(batch, self._ids, None, self._ids)
        return self._ids[:batch]

    def _run(
        self,
        batch: int,
        tokens: ctypes.Array[ctypes.c_int64] | int,
        logits: int | None,
        ids: ctypes.Array[ctypes.c_int64] | None,
    ) -> None:
        cache = self._cache
        cache.require_room()
        family = _FAMILIES[self._paths.for_rows(batch)]
        error = self._step(
            self._handle, family, batch, cache.length, self._starts, tokens, logits, ids
        )
        if error not in (native.OK, native.NOT_FINITE):
            native.check(error, "engine", f"batch {batch}, vocabulary {self._vocabulary}")
        cache.advance()
        native.check(error, "engine", "the largest logit of a row")
