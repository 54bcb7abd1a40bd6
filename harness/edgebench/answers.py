"""Answers: from output token ids to right or wrong, the same way for the runner and the checker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Decoder(Protocol):
    """The part of a `tokenizers.Tokenizer` that judging needs."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        """Turn token ids into text."""


class Judge(Protocol):
    """Who says whether an output answers a scored sample."""

    def is_right(self, sample: int, output_ids: Sequence[int]) -> bool:
        """Whether the output answers scored sample `sample`."""
        ...


class ClassKey:
    """Judges answers of one class each: classes[i] is the right one of scored sample i."""

    def __init__(self, classes: Sequence[int]) -> None:
        self._classes = classes

    def is_right(self, sample: int, output_ids: Sequence[int]) -> bool:
        """See Judge."""
        return list(output_ids) == [self._classes[sample]]


class AnswerKey:
    """Judges the outputs of one workload; equal outputs are decoded once.

    expected[i] is the right answer of scored sample i; is_correct(output, expected) the metric.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        eos_id: int,
        expected: Sequence[str],
        is_correct: Callable[[str, str], bool],
    ) -> None:
        self._decoder = decoder
        self._eos_id = eos_id
        self._expected = expected
        self._is_correct = is_correct
        self._judged: dict[tuple[int, tuple[int, ...]], bool] = {}

    def text(self, output_ids: Sequence[int]) -> str:
        """Return the text before end-of-sequence; any other special token stays, and spoils it."""
        ids = list(output_ids)
        if ids and ids[-1] == self._eos_id:
            ids.pop()
        return self._decoder.decode(ids, skip_special_tokens=False)

    def is_right(self, sample: int, output_ids: Sequence[int]) -> bool:
        """Whether the output answers scored sample `sample`; one that never ends is wrong."""
        key = (sample, tuple(output_ids))
        if key not in self._judged:
            ended = bool(output_ids) and output_ids[-1] == self._eos_id
            self._judged[key] = ended and self._is_correct(
                self.text(output_ids), self._expected[sample]
            )
        return self._judged[key]
