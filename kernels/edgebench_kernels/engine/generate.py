"""Greedy generation for a batch of prompts whose rows leave the batch as they finish."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from edgebench_kernels.engine.interface import DecodeEngine


@torch.inference_mode()
def generate_greedy(
    engine: DecodeEngine,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    eos_id: int | None,
    on_first_token: Callable[[int], None] | None = None,
    on_complete: Callable[[int, list[int]], None] | None = None,
) -> list[list[int]]:
    """Greedy answers in the order of the prompts, each up to and including eos_id.

    Callbacks get the prompt's place in `prompts`, the moment its first token is known and when its
    answer is whole. A finished row leaves the batch at once and costs nothing more.
    Raises ValueError for prompts the engine cannot hold and FloatingPointError when the logits
    stop being finite (an arithmetic overflow must not turn into a wrong answer).
    """
    _check_request(engine, prompts, max_new_tokens)
    lengths = [len(prompt) for prompt in prompts]
    ids = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : lengths[row]] = torch.tensor(prompt, dtype=torch.long)
    answers: list[list[int]] = [[] for _ in prompts]
    active = list(range(len(prompts)))  # active[row of the batch] = place in prompts
    tokens = engine.prefill_greedy(ids, lengths)
    if on_first_token is not None:
        for place in active:
            on_first_token(place)
    while True:
        staying = []
        for row, place in enumerate(active):
            answer = answers[place]
            answer.append(tokens[row])
            if tokens[row] != eos_id and len(answer) < max_new_tokens:
                staying.append(row)
            elif on_complete is not None:
                on_complete(place, list(answer))
        if not staying:
            return answers
        if len(staying) < len(active):
            order = engine.keep(staying)
            active = [active[row] for row in order]
            tokens = [tokens[row] for row in order]
        tokens = engine.decode_greedy(tokens)


def pick(logits: Tensor, describe: Callable[[], str]) -> list[int]:
    """The most likely next token of each row of f32 [B, V].

    Raises FloatingPointError, naming the arithmetic, when a row's largest logit is not finite.
    """
    best, ids = logits.max(-1)
    if not math.isfinite(best.sum().item()):
        raise overflow(describe())
    return ids.tolist()


def overflow(arithmetic: str) -> FloatingPointError:
    """The error of logits that stopped being finite."""
    return FloatingPointError(
        f"[engine] the logits are not finite: the arithmetic ({arithmetic}) overflowed; "
        "choose a wider one for this regime"
    )


def _check_request(
    engine: DecodeEngine, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> None:
    if not 1 <= len(prompts) <= engine.max_batch:
        raise ValueError(
            f"[engine] between 1 and max_batch={engine.max_batch} prompts, got {len(prompts)}"
        )
    if max_new_tokens < 1:
        raise ValueError(f"[engine] max_new_tokens must be >= 1, got {max_new_tokens}")
    for place, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"[engine] prompt {place} is empty")
        # The last new token is returned, never fed back, so it needs no column.
        needed = len(prompt) + max_new_tokens - 1
        if needed > engine.max_length:
            raise ValueError(
                f"[engine] prompt {place} has {len(prompt)} tokens; with max_new_tokens="
                f"{max_new_tokens} it needs {needed} columns but the cache holds "
                f"max_length={engine.max_length}"
            )
