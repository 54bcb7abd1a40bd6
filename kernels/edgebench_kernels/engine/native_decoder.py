"""One native call per step over packed INT4: every layer, the head, the greedy choice."""

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
    """Prompts and decode steps of a model whose linears are all packed INT4, on a given cache.

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
        self._config = config
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

    def decode(self, ids: Tensor) -> Tensor:
        """Append one token per row, int [B]; the next logits f32 [B, V]."""
        tokens = ids.to(torch.int64).contiguous()
        logits = torch.empty(len(tokens), self._config.vocab_size)
        self._append(len(tokens), tokens.data_ptr(), logits.data_ptr(), None)
        return logits

    def greedy(self, tokens: Sequence[int]) -> list[int]:
        """Append one token per row and return the most likely next ones.

        Raises FloatingPointError when a row's largest logit is not finite.
        """
        batch = len(tokens)
        self._ids[:batch] = list(tokens)
        self._append(batch, self._ids, None, self._ids)
        return self._ids[:batch]

    def prompts(self, ids: Tensor, lengths: list[int], *, every: bool) -> Tensor:
        """Packed prompts int [S] into the cache, which was reset to these lengths.

        Returns logits f32 [B, V] at the last token of each, or f32 [S, V] of `every` token.
        """
        tokens = ids.to(torch.int64).contiguous()
        counts = torch.tensor(lengths, dtype=torch.int32)
        heads = len(tokens) if every else len(lengths)
        logits = torch.empty(heads, self._config.vocab_size)
        error = self._step(
            self._handle,
            _FAMILIES[self._paths.for_rows(len(tokens))],
            _FAMILIES[self._paths.for_rows(heads)],
            len(lengths),
            self._cache.length - 1,
            self._starts,
            counts.data_ptr(),
            tokens.data_ptr(),
            every,
            logits.data_ptr(),
            None,
        )
        native.check(error, "engine", f"prompts of {lengths} tokens")
        return logits

    def _append(
        self,
        batch: int,
        tokens: ctypes.Array[ctypes.c_int64] | int,
        logits: int | None,
        ids: ctypes.Array[ctypes.c_int64] | None,
    ) -> None:
        cache = self._cache
        cache.require_room()
        family = _FAMILIES[self._paths.for_rows(batch)]
        column, starts = cache.length, self._starts
        error = self._step(
            self._handle, family, family, batch, column, starts, None, tokens, False, logits, ids
        )
        if error == native.TOKEN:
            raise ValueError(f"[engine] token ids must be 0..{self._config.vocab_size - 1}")
        if error != native.NOT_FINITE:
            native.check(error, "engine", f"batch {batch}, column {column}")
        cache.advance()
        native.check(error, "engine", f"batch {batch}, column {column}")
