"""Accuracy beside exact match: the negative log-likelihood of the right call, teacher-forced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from edgebench.record import Kernel, NllRow

if TYPE_CHECKING:
    from edgebench_kernels.engine import DecodeEngine


def call_nll_rows(
    kernel: Kernel,
    engine: DecodeEngine,
    prompts: Sequence[Sequence[int]],
    calls: Sequence[Sequence[int]],
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[NllRow]:
    """Yield one row per sample: nats summed over its call's tokens, end of sequence included.

    prompts[i] and calls[i] are token ids of scored sample i; a call ends with end-of-sequence.
    Exact match alone cannot see 4 bits; this can.
    """
    import torch

    for start in range(0, len(prompts), batch_size):
        batch = range(start, min(start + batch_size, len(prompts)))
        rows = [[*prompts[i], *calls[i]] for i in batch]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        logits = engine.forward_all(ids, lengths)
        for row, sample in enumerate(batch):
            first, last = len(prompts[sample]), len(rows[row])
            log_probabilities = torch.log_softmax(logits[row, first - 1 : last - 1].double(), -1)
            picked = log_probabilities.gather(1, ids[row, first:last, None])
            yield NllRow(
                kernel=kernel,
                sample=sample,
                nll_nats=max(0.0, -float(picked.sum())),
                tokens=last - first,
            )
        if progress is not None:
            progress(batch.stop, len(prompts))
