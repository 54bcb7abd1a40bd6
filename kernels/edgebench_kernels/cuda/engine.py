"""The decode engine of GPUs: one CUDA graph a step, with tokens and columns in device memory.

The reference and INT4 differ in their linears alone: cache, kernels between the linears, graph and
loop are the same. A step is captured once for each size of batch in BATCHES; a batch of another
size runs in the next larger one, whose other rows decode for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from edgebench_kernels.cuda.engine_model import Activations, GpuLinear, GpuModel
from edgebench_kernels.cuda.engine_prompts import PromptAttention
from edgebench_kernels.cuda.engine_state import GpuCache, Room, RowState
from edgebench_kernels.cuda.launcher import Launcher, memory_errors
from edgebench_kernels.cuda.step_geometry import NOT_FINITE
from edgebench_kernels.cuda.step_kernels import StepKernels, check_shape
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.generate import overflow
from edgebench_kernels.engine.interface import DecodeEngine, check_window, padded_logits
from edgebench_kernels.engine.weights import EMBEDDING

BATCHES = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256)
LOGITS_BYTES = 256 << 20
"""Of every position's logits that are on the device at a time."""


class GpuEngine(DecodeEngine):
    """See DecodeEngine; `linears` maps each of `fused_linears(config)` to a GpuLinear.

    `tensors` are the embedding and the norms on the launcher's device.
    """

    def __init__(
        self,
        launcher: Launcher,
        config: LlamaConfig,
        tensors: Mapping[str, Tensor],
        linears: Mapping[str, GpuLinear],
        room: Room,
    ) -> None:
        check_shape(config)
        check_window(config, room.max_length)
        self.config, self.linears = config, dict(linears)
        self._launcher, self._device = launcher, launcher.device
        self._embedding = tensors[EMBEDDING]
        with memory_errors(launcher, "engine"):
            self.cache = GpuCache(config, room, self._device)
            self._rows = RowState(room.max_batch, room.max_length, self._device)
            self._activations = Activations.of(config, room.max_batch, self._device)
            self._kernels = StepKernels(launcher, config, self.cache)
            self._model = GpuModel(config, tensors, linears, self._kernels)
            self._logits = self._empty_logits(room.max_batch)
        self._graphs: dict[int, Callable[[], None]] = {}
        self._lengths: list[int] = []
        self._chosen: list[int] | None = None  # what the device will append, as far as known

    @property
    def max_batch(self) -> int:
        """See DecodeEngine."""
        return self.cache.max_batch

    @property
    def max_length(self) -> int:
        """See DecodeEngine."""
        return self.cache.max_length

    @property
    def batch(self) -> int:
        """See DecodeEngine."""
        return len(self._lengths)

    @torch.inference_mode()
    def prefill(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """See DecodeEngine."""
        return self._prefill(ids, lengths).float().cpu()

    @torch.inference_mode()
    def prefill_greedy(self, ids: Tensor, lengths: Sequence[int]) -> list[int]:
        """See DecodeEngine."""
        self._kernels.choose(self._prefill(ids, lengths), self._rows)
        return self._read()

    @torch.inference_mode()
    def forward_all(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """See DecodeEngine."""
        tokens, counts = self._packed(ids, lengths)
        with memory_errors(self._launcher, "engine"):
            rows, _ = self._run_prompts(tokens, counts)
            chunk = max(1, LOGITS_BYTES // self._logits[0].nbytes)
            parts = [
                self._head(x, delta).float().cpu()
                for x, delta in zip(rows.x.split(chunk), rows.delta.split(chunk), strict=True)
            ]
        return padded_logits(torch.cat(parts), ids, counts)

    @torch.inference_mode()
    def decode(self, ids: Tensor) -> Tensor:
        """See DecodeEngine."""
        self._check_step(ids)
        self._rows.feed(ids)
        self._step(1)
        return self._logits[: self.batch].float().cpu()

    @torch.inference_mode()
    def decode_greedy(self, tokens: Sequence[int]) -> list[int]:
        """See DecodeEngine."""
        self._feed(tokens)
        self._step(1)
        return self._read()

    @torch.inference_mode()
    def decode_ahead(self, tokens: Sequence[int], steps: int) -> list[list[int]]:
        """`decode_greedy` so many times without a look; each row's `steps` tokens.

        Raises ValueError where the cache has not so many columns, and as decode_greedy does.
        """
        self._feed(tokens)
        first = int(self._rows.counts[0])
        self._step(steps)
        self._read()
        output = self._rows.output[: self.batch, first : first + steps]
        return [list(row) for row in output.tolist()]

    @torch.inference_mode()
    def keep(self, rows: list[int]) -> list[int]:
        """See DecodeEngine."""
        kept, count = set(rows), len(rows)
        holes = [row for row in range(count) if row not in kept]
        moved = [row for row in rows if row >= count]
        target, source = (self._places(places) for places in (holes, moved))
        if moved:
            self.cache.move(target, source, max(self._lengths))
        self._rows.keep(target, source, count)
        order = list(range(count))
        for hole, row in zip(holes, moved, strict=True):
            order[hole] = row
        self._lengths = [self._lengths[row] for row in order]
        if self._chosen is not None:
            self._chosen = [self._chosen[row] for row in order]
        return order

    @torch.inference_mode()
    def warm_up(self, batches: Iterable[Sequence[int]]) -> None:
        """See DecodeEngine: kernels compiled, cuBLAS's loaded, every size of batch captured."""
        for lengths in batches:
            prompts = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
            self._kernels.choose(self._prefill(prompts, lengths), self._rows)
        for size in BATCHES:
            self._graph(min(size, self.max_batch))
        self._lengths, self._chosen = [], None

    def _places(self, rows: list[int]) -> Tensor:
        """Rows as an index, of no rows too."""
        return torch.tensor(rows, dtype=torch.int64, device=self._device)

    # ------------------------------------------------------------------------------- prompts

    def _prefill(self, ids: Tensor, lengths: Sequence[int] | Tensor) -> Tensor:
        """Start new rows; their logits [B, V] on the device."""
        tokens, counts = self._packed(ids, lengths)
        with memory_errors(self._launcher, "engine"):
            rows, last = self._run_prompts(tokens, counts)
            return self._head(rows.x.index_select(0, last), rows.delta.index_select(0, last))

    def _run_prompts(self, tokens: Tensor, counts: list[int]) -> tuple[Activations, Tensor]:
        """Packed prompts int [S] through the layers; the activations, and each prompt's last."""
        self._lengths, self._chosen = counts, None
        self._rows.reset(counts)
        attention = PromptAttention(self.config, self._kernels, counts, self._device)
        rows = Activations.of(self.config, len(tokens), self._device)
        ids = tokens.to(torch.int64).to(self._device)
        self._model.run(ids, rows, attention, None)
        return rows, attention.last

    def _head(self, x: Tensor, delta: Tensor) -> Tensor:
        logits = self._empty_logits(len(x))
        self._model.head(x, delta, torch.empty_like(delta), logits)
        return logits

    def _empty_logits(self, rows: int) -> Tensor:
        dtype = self._model.lm_head.logits_dtype
        return torch.empty(rows, self.config.vocab_size, dtype=dtype, device=self._device)

    # --------------------------------------------------------------------------------- steps

    def _feed(self, tokens: Sequence[int]) -> None:
        """Let the next step append these tokens: a copy only where the device has not them."""
        if list(tokens) != self._chosen:
            ids = torch.tensor(tokens)
            self._check_step(ids)
            self._rows.feed(ids)

    def _step(self, count: int) -> None:
        """Append what was fed or chosen, one token a row and step."""
        if max(self._lengths, default=self.max_length) + count > self.max_length:
            raise ValueError(f"[engine] the KV cache is full: max_length={self.max_length}")
        size = next((size for size in BATCHES if size >= self.batch), self.max_batch)
        replay = self._graph(min(size, self.max_batch))
        self._chosen = None
        for _ in range(count):
            replay()
        self._lengths = [length + count for length in self._lengths]

    def _graph(self, rows: int) -> Callable[[], None]:
        if rows not in self._graphs:
            with self._rows.preserved(), memory_errors(self._launcher, "engine"):
                self._graphs[rows] = self._launcher.capture(lambda: self._run_step(rows))
        return self._graphs[rows]

    def _run_step(self, rows: int) -> None:
        """One token of each of the first `rows` rows: what the graph holds."""
        state, kernels = self._rows, self._kernels
        here = self._activations.first(rows)

        def attend(layer: int, qkv: Tensor) -> Tensor:
            kernels.attention(layer, qkv, state.columns, here.mixed)
            return here.mixed

        logits = self._logits[:rows]
        self._model.step(state.ids[:rows], here, attend, state.status, logits)
        kernels.choose(logits, state)
        kernels.advance(state, rows)

    def _read(self) -> list[int]:
        """The tokens that the active rows chose."""
        tokens, status = self._rows.read(self.batch)
        if any(one & NOT_FINITE for one in status):
            raise overflow(self.describe())
        self._chosen = tokens
        return tokens
