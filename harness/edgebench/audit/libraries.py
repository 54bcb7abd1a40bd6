"""The libraries of a workload: its scored questions, and fresh ones of the same grammar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgebench.answers import AnswerKey
from edgebench.audit.auditee import Library
from edgebench.prepare import encode_pairs
from edgebench.prepared_text import PreparedText

if TYPE_CHECKING:
    from edgebench_workloads.assistant.dataset import Pair

SPARE = 1.2  # fresh questions for each that is needed: those longer than any scored are left out


def scored_library(prepared: PreparedText) -> Library:
    """The scored set."""
    return _library("scored", prepared, prepared.pairs, prepared.prompts)


def unseen_library(prepared: PreparedText, size: int, seed: int) -> Library | None:
    """About `size` fresh questions of a seed, none longer than the longest scored one.

    Engines hold no more than that. None where the workload cannot make any.
    """
    pairs = prepared.workload.unseen(int(SPARE * size), seed)
    if pairs is None:
        return None
    _, prompts, _ = encode_pairs(prepared.directory, pairs)
    longest = max(map(len, prepared.prompts))
    kept = [i for i, prompt in enumerate(prompts) if len(prompt) <= longest][:size]
    return _library("unseen", prepared, [pairs[i] for i in kept], [prompts[i] for i in kept])


def _library(
    name: str,
    prepared: PreparedText,
    pairs: Sequence[Pair],
    prompts: Sequence[Sequence[int]],
) -> Library:
    return Library(
        name=name,
        commands=[pair.command for pair in pairs],
        prompts=prompts,
        answers=AnswerKey(
            decoder=prepared.tokenizer,
            eos_id=prepared.eos_id,
            expected=[pair.call for pair in pairs],
            is_correct=prepared.workload.is_correct,
        ),
        eos_id=prepared.eos_id,
        max_new_tokens=prepared.workload.task.max_new_tokens,
    )
