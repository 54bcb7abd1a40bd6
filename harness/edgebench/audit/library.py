"""Libraries: the questions that an audit asks, each with its right answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgebench.answers import Judge

if TYPE_CHECKING:
    from edgebench_workloads.wake.scenes import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Library(ABC):
    """Questions of one kind; `answers` judges an answer to sample i."""

    name: str
    answers: Judge = field(repr=False)

    @property
    @abstractmethod
    def is_streamed(self) -> bool:
        """Whether an answer is written token by token, so that its first comes before its last."""

    @property
    @abstractmethod
    def lengths(self) -> Sequence[int]:
        """How long each question is, as far as its cost depends on it."""

    @property
    @abstractmethod
    def guessed(self) -> float:
        """The share of questions to which two systems that know nothing may answer alike."""

    @abstractmethod
    def twice(self) -> Library:
        """The same questions twice: sample i and sample i + len(self) are one question."""

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLibrary(Library):
    """Prompts that are answered in tokens."""

    prompts: Sequence[Sequence[int]] = field(repr=False)
    """Token ids."""
    eos_id: int
    max_new_tokens: int

    @property
    def is_streamed(self) -> bool:
        """See Library."""
        return True

    @property
    def lengths(self) -> Sequence[int]:
        """See Library: in tokens."""
        return [len(prompt) for prompt in self.prompts]

    @property
    def guessed(self) -> float:
        """See Library: nobody guesses a call."""
        return 0.0

    def twice(self) -> TextLibrary:
        """See Library."""
        return replace(
            self,
            name=f"{self.name} twice",
            prompts=[*self.prompts, *self.prompts],
            answers=_Folded(self.answers, len(self)),
        )

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLibrary(Library):
    """Images that are answered by one class each."""

    scenes: Sequence[Scene] = field(repr=False)
    classes: int
    """How many there are to choose from, each as frequent as another."""

    @property
    def is_streamed(self) -> bool:
        """See Library."""
        return False

    @property
    def lengths(self) -> Sequence[int]:
        """See Library: one image costs what another does."""
        return [1] * len(self.scenes)

    @property
    def guessed(self) -> float:
        """See Library: what is always answered alike is right as often as its class comes."""
        return 1 / self.classes

    def twice(self) -> ImageLibrary:
        """See Library."""
        return replace(
            self,
            name=f"{self.name} twice",
            scenes=[*self.scenes, *self.scenes],
            answers=_Folded(self.answers, len(self)),
        )


class _Folded:
    """The judge of questions that come twice: that of the first."""

    def __init__(self, answers: Judge, count: int) -> None:
        self._answers, self._count = answers, count

    def is_right(self, sample: int, output_ids: Sequence[int]) -> bool:
        return self._answers.is_right(sample % self._count, output_ids)
