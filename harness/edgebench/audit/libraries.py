"""The libraries of a workload: its scored questions, and fresh ones of the same grammar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgebench.answers import AnswerKey, ClassKey
from edgebench.audit.library import ImageLibrary, Library, TextLibrary
from edgebench.images.prepared import PreparedImages
from edgebench.prepare import encode_pairs
from edgebench.prepared import PreparedWorkload
from edgebench.prepared_text import PreparedText, require_text
from edgebench_workloads.wake.genome import CLASSES

if TYPE_CHECKING:
    from edgebench_workloads.assistant.dataset import Pair
    from edgebench_workloads.wake.scenes import Scene

SPARE = 1.2  # fresh questions for each that is needed: those longer than any scored are left out


def scored_library(prepared: PreparedWorkload) -> Library:
    """The scored set."""
    if isinstance(prepared, PreparedImages):
        return _of_scenes("scored", prepared.scenes)
    text = require_text(prepared, "audit")
    return _of_pairs("scored", text, text.pairs, text.prompts)


def right_answers(prepared: PreparedWorkload) -> Sequence[Sequence[int]]:
    """What the likelihood of every scored sample is of: a call's token ids, or one class."""
    if isinstance(prepared, PreparedImages):
        return [[one] for one in prepared.classes]
    return require_text(prepared, "audit").calls


def unseen_library(prepared: PreparedWorkload, size: int, seed: int) -> Library | None:
    """About `size` fresh questions of a seed; None where the workload cannot make any.

    None of text is longer than the longest scored one: engines hold no more than that.
    """
    workload = prepared.workload
    if isinstance(prepared, PreparedImages):
        scenes = workload.unseen_scenes(size, seed)
        return None if scenes is None else _of_scenes("unseen", scenes)
    text = require_text(prepared, "audit")
    pairs = workload.unseen(int(SPARE * size), seed)
    if pairs is None:
        return None
    _, prompts, _ = encode_pairs(text.directory, pairs)
    longest = max(map(len, text.prompts))
    kept = [i for i, prompt in enumerate(prompts) if len(prompt) <= longest][:size]
    return _of_pairs("unseen", text, [pairs[i] for i in kept], [prompts[i] for i in kept])


def _of_scenes(name: str, scenes: Sequence[Scene]) -> ImageLibrary:
    answers = ClassKey([int(scene.is_wake) for scene in scenes])
    return ImageLibrary(name=name, answers=answers, scenes=scenes, classes=CLASSES)


def _of_pairs(
    name: str,
    prepared: PreparedText,
    pairs: Sequence[Pair],
    prompts: Sequence[Sequence[int]],
) -> TextLibrary:
    return TextLibrary(
        name=name,
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
