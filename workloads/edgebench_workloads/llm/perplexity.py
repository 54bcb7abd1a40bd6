"""The perplexity protocol: which tokens are predicted from which others, and what is divided.

A window of `context` tokens moves over the text by `stride`. Each window predicts what no window
before it predicted, except its own first token, which nothing precedes; a rest that fills no
window is left out. stride = context gives the non-overlapping loop of GPTQ and AWQ, in which the
first token of each window is never predicted; a smaller stride gives every prediction at least
context - stride tokens to look back on. A text shorter than the context is one window.

    perplexity = exp(nats / tokens)   word perplexity = exp(nats / words)
    bits per byte = nats / (bytes ln 2)

with tokens, words and bytes those that were predicted (`text.TokenizedText`).
Source: IST-DASLab/gptq, llama.py (llama_eval); transformers' docs, "Perplexity of fixed-length
models".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgebench_workloads.llm.text import TokenizedText

if TYPE_CHECKING:
    from edgebench_kernels.engine import DecodeEngine

_ROWS = 128  # logits rows in float64 at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Tokens [start, stop) go in; those of [predicted_from, stop) are predicted."""

    start: int
    predicted_from: int
    stop: int

    @property
    def tokens(self) -> int:
        """How many are predicted."""
        return self.stop - self.predicted_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Denominators:
    """What was predicted, in three units."""

    tokens: int
    words: int
    bytes: int


def windows_of(tokens: int, context: int, stride: int) -> tuple[Window, ...]:
    """The windows over a text of so many tokens; ValueError for a protocol that predicts none."""
    if tokens < 2:
        raise ValueError(
            f"[llm] the text must have at least 2 tokens, got {tokens}; give a longer one"
        )
    if context < 2 or not 1 <= stride <= context:
        raise ValueError(
            f"[llm] expected context >= 2 and 1 <= stride <= context, "
            f"got context {context} and stride {stride}"
        )
    if tokens <= context:
        return (Window(start=0, predicted_from=1, stop=tokens),)
    made: list[Window] = []
    for start in range(0, tokens - context + 1, stride):
        seen = made[-1].stop if made else 0
        made.append(Window(start=start, predicted_from=max(start + 1, seen), stop=start + context))
    return tuple(made)


def denominators(text: TokenizedText, windows: Sequence[Window]) -> Denominators:
    """Tokens, words and bytes that these windows predict."""
    parts = [slice(window.predicted_from, window.stop) for window in windows]
    return Denominators(
        tokens=sum(window.tokens for window in windows),
        words=sum(int(text.words_of[part].sum()) for part in parts),
        bytes=sum(int(text.bytes_of[part].sum()) for part in parts),
    )


def window_nats(
    engine: DecodeEngine,
    text: TokenizedText,
    windows: Sequence[Window],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[float]:
    """Yield the negative log-likelihood that each window predicts its tokens with, in nats.

    Raises FloatingPointError, naming the arithmetic, where a likelihood is not finite.
    """
    import torch

    ids = torch.from_numpy(text.ids)
    for done, window in enumerate(windows, start=1):
        inside = ids[window.start : window.stop]
        logits = engine.forward_all(inside[None], [len(inside)])[0]
        first = window.predicted_from - window.start
        nats = 0.0
        for begin in range(first, len(inside), _ROWS):
            end = min(begin + _ROWS, len(inside))
            likely = torch.log_softmax(logits[begin - 1 : end - 1].double(), -1)
            nats -= float(likely.gather(1, inside[begin:end, None]).sum())
        if not math.isfinite(nats):
            raise FloatingPointError(
                f"[llm] the likelihood of tokens {window.predicted_from}..{window.stop - 1} is not "
                f"finite: the arithmetic ({engine.describe()}) overflowed"
            )
        yield max(0.0, nats)
        if progress is not None:
            progress(done, len(windows))
