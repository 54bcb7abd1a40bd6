"""Times the decoding of engines in turns: with a look at every token, and many tokens at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Engine(Protocol):
    """What is timed of a GPU engine."""

    def prefill_greedy(self, ids: Tensor, lengths: Sequence[int]) -> list[int]:
        """See DecodeEngine."""
        ...

    def decode_greedy(self, tokens: Sequence[int]) -> list[int]:
        """See DecodeEngine."""
        ...

    def decode_ahead(self, tokens: Sequence[int], steps: int) -> list[list[int]]:
        """See GpuEngine."""
        ...


@dataclass(slots=True)
class Decoding:
    """Seconds by round: of a prefill, of a step that the host looks at, of one it does not."""

    prefill_s: list[float] = field(default_factory=list)
    looked_s: list[float] = field(default_factory=list)
    ahead_s: list[float] = field(default_factory=list)


def decode_rounds(
    engines: Mapping[str, Engine],
    prompts: Tensor,
    steps: int,
    rounds: int,
    goes_on: Callable[[], bool],
) -> dict[str, Decoding]:
    """Every round each engine, in a new random order: a prefill of prompts [B, T], then steps."""
    found = {name: Decoding() for name in engines}
    lengths = [prompts.shape[1]] * prompts.shape[0]
    order, names = random.Random(0), list(engines)
    for turn in range(rounds + 1):
        if not goes_on():
            break
        order.shuffle(names)
        for name in names:
            one = _round(engines[name], prompts, lengths, steps)
            if turn > 0:  # the first one captures graphs
                found[name].prefill_s.append(one[0])
                found[name].looked_s.append(one[1])
                found[name].ahead_s.append(one[2])
    return found


def _round(
    engine: Engine, prompts: Tensor, lengths: list[int], steps: int
) -> tuple[float, float, float]:
    begin = time.perf_counter()
    tokens = engine.prefill_greedy(prompts, lengths)
    prefill_s = time.perf_counter() - begin
    tokens = engine.decode_greedy(tokens)
    begin = time.perf_counter()
    for _ in range(steps):
        tokens = engine.decode_greedy(tokens)
    looked_s = (time.perf_counter() - begin) / steps
    begin = time.perf_counter()
    engine.decode_ahead(tokens, steps)
    ahead_s = (time.perf_counter() - begin) / steps
    return prefill_s, looked_s, ahead_s


def random_prompts(batch: int, length: int, vocabulary: int) -> Tensor:
    """int64 [B, T], the same each time."""
    generator = torch.Generator().manual_seed(batch * length)
    return torch.randint(0, vocabulary, (batch, length), generator=generator)
