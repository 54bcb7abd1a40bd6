"""A machine of our own: a clock that only work moves, engines that are functions, honest and not.

Nothing here sleeps or reads a real clock. What a query costs is prefill per prompt token and decode
per output token, with noise of a seed: a few percent of each query, and a drift of the machine.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from edgebench.answers import AnswerKey
from edgebench.audit.auditee import Auditee, LogitsPair, NotSupported
from edgebench.audit.case import Case, Claimed, Counts
from edgebench.audit.intervals import Interval
from edgebench.audit.library import Library, TextLibrary
from edgebench.loadgen import QuerySample, SystemUnderTest

EOS = 2
VOCABULARY = 64
LONGEST = 24
SPEEDUP = 2.0
FirstToken = Callable[[int], None]
Complete = Callable[[int, Sequence[int]], None]
Answer = Callable[[Sequence[int]], list[int]]  # prompt -> output ids


@dataclass(slots=True)
class Clock:
    """Time that passes only when something says so, in ns."""

    now_ns: int = 1_000_000

    def __call__(self) -> int:
        return self.now_ns

    def pass_ns(self, duration_ns: float) -> None:
        self.now_ns += max(1, round(duration_ns))


@dataclass(slots=True)
class Machine:
    """What work costs here: noise of every query, and a slow swing that all of them share."""

    clock: Clock
    source: random.Random
    prefill_ns: float = 50_000.0
    decode_ns: float = 200_000.0
    noise: float = 0.03
    swing: float = 0.05

    def factor(self) -> float:
        """How much slower than usual this query is."""
        drift = 1 + self.swing * math.sin(self.clock.now_ns / 2e9)
        return drift * math.exp(self.source.gauss(0, self.noise))


class DecoderOfWords:
    """Token ids as text, for an AnswerKey."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return " ".join(map(str, ids))


def right_answer(prompt: Sequence[int]) -> list[int]:
    """The model that was submitted: an answer that depends on every token of the prompt."""
    return list(_right(tuple(prompt)))


@cache
def _right(prompt: tuple[int, ...]) -> tuple[int, ...]:
    source = random.Random(str(prompt))
    length = 3 + source.randrange(LONGEST - 6)
    return (*(source.randrange(3, VOCABULARY) for _ in range(length)), EOS)


def noisy_answer(prompt: Sequence[int]) -> list[int]:
    """The model whose weights became noise."""
    source = random.Random(f"noise {tuple(prompt)}")
    return [source.randrange(3, VOCABULARY) for _ in range(LONGEST)]


def hasty_answer(prompt: Sequence[int]) -> list[int]:
    """A model with layers left out: mostly another answer of the same length."""
    right, source = right_answer(prompt), random.Random(f"hasty {tuple(prompt)}")
    return [t if source.random() < 0.7 else 3 + (t + 1) % 60 for t in right[:-1]] + [EOS]


@cache
def library_of(name: str, count: int, seed: int) -> TextLibrary:
    """Questions of random tokens; what the model answers is right, but for one in a hundred."""
    source = random.Random(f"{name} {seed}")
    prompts = [
        [source.randrange(3, VOCABULARY) for _ in range(source.randrange(8, 40))]
        for _ in range(count)
    ]
    decoder = DecoderOfWords()
    expected = [
        "-" if source.random() < 0.01 else decoder.decode(right_answer(prompt)[:-1])
        for prompt in prompts
    ]
    return TextLibrary(
        name=name,
        prompts=prompts,
        answers=AnswerKey(
            decoder=decoder, eos_id=EOS, expected=expected, is_correct=lambda a, b: a == b
        ),
        eos_id=EOS,
        max_new_tokens=LONGEST,
    )


class ModelSut:
    """Answers each sample by a function, at the machine's cost; a batch shares its steps."""

    def __init__(
        self,
        machine: Machine,
        library: TextLibrary,
        answer: Answer,
        *,
        batch_size: int = 1,
        work: float = 1.0,
    ) -> None:
        self.name = "double"
        self.machine, self.library, self.answer = machine, library, answer
        self.batch_size, self.work = batch_size, work

    def issue_query(
        self, samples: Sequence[QuerySample], first_token: FirstToken, complete: Complete
    ) -> None:
        for start in range(0, len(samples), self.batch_size):
            batch = samples[start : start + self.batch_size]
            prompts = [self.library.prompts[sample.index] for sample in batch]
            outputs = [self.answer(prompt) for prompt in prompts]
            factor, clock = self.work * self.machine.factor(), self.machine.clock
            clock.pass_ns(factor * self.machine.prefill_ns * sum(map(len, prompts)))
            for sample in batch:
                first_token(sample.id)
            for step in range(1, max(map(len, outputs)) + 1):
                if step > 1:
                    clock.pass_ns(factor * self.machine.decode_ns)
                for sample, output in zip(batch, outputs, strict=True):
                    if len(output) == step:
                        complete(sample.id, output)


@dataclass(slots=True)
class Double:
    """An auditee of doubles. `cheat` wraps every system under test that it makes."""

    machine: Machine
    batch_size: int = 1
    cheat: Callable[[ModelSut], SystemUnderTest] | None = None
    work: float = 1.0
    """What an answer costs, of the machine's cost."""
    name: str = "double"
    is_closed: bool = False
    """Whether its model can be neither changed nor looked into."""

    def sut(self, library: Library) -> SystemUnderTest:
        return self._make(library, right_answer)

    def perturbed(self, library: Library) -> SystemUnderTest:
        self._refuse()
        return self._make(library, noisy_answer)

    def first_tokens(self, library: Library, samples: Sequence[int]) -> list[int]:
        self._refuse()
        assert isinstance(library, TextLibrary)
        return [right_answer(library.prompts[sample])[0] for sample in samples]

    def logits(self, library: Library, samples: Sequence[int]) -> Iterator[LogitsPair]:
        self._refuse()
        assert isinstance(library, TextLibrary)
        for sample in samples:
            output = right_answer(library.prompts[sample])
            one = np.random.Generator(np.random.Philox(sample)).normal(
                size=(len(output), VOCABULARY)
            )
            yield LogitsPair(
                sample=sample,
                output_ids=tuple(output),
                by_step=one.astype(np.float32),
                in_one_pass=(one + 1e-3).astype(np.float32),
            )

    def _make(self, library: Library, answer: Answer) -> SystemUnderTest:
        assert isinstance(library, TextLibrary)
        honest = ModelSut(self.machine, library, answer, batch_size=self.batch_size, work=self.work)
        return honest if self.cheat is None else self.cheat(honest)

    def _refuse(self) -> None:
        if self.is_closed:
            raise NotSupported("an external engine's model cannot be reached")


class Wrapped(ABC):
    """A real auditee whose systems under test are wrapped; all else is its own."""

    auditee: Auditee

    @property
    def name(self) -> str:
        return self.auditee.name

    def sut(self, library: Library) -> SystemUnderTest:
        return self._wrapped(self.auditee.sut(library), library)

    def perturbed(self, library: Library) -> SystemUnderTest:
        return self._wrapped(self.auditee.perturbed(library), library)

    def first_tokens(self, library: Library, samples: Sequence[int]) -> list[int]:
        return self.auditee.first_tokens(library, samples)

    def logits(self, library: Library, samples: Sequence[int]) -> Iterator[LogitsPair]:
        return self.auditee.logits(library, samples)

    @abstractmethod
    def _wrapped(self, inner: SystemUnderTest, library: Library) -> SystemUnderTest: ...


def machine_of(seed: int, **change: float) -> Machine:
    """A machine whose noise comes of a seed."""
    return Machine(clock=Clock(), source=random.Random(seed), **change)


def case_of(seed: int = 1, batch_size: int = 1, **change: object) -> Case:
    """A case over doubles: 600 scored questions."""
    scored = library_of("scored", 600, 0)
    offline = batch_size > 1
    given: dict[str, object] = {
        "kernel": "int4",
        "scenario": "offline" if offline else "single-stream",
        "scored": scored,
        "unseen": library_of("unseen", 400, seed),
        "counts": Counts(pairs=12 if offline else 48, answers=256, logits=8),
        "batch_size": batch_size,
        "published_seed": 42,
        "seed": seed,
        "claimed": Claimed(
            outputs={i: tuple(right_answer(p)) for i, p in enumerate(scored.prompts)},
            speedup=None if offline else Interval(value=SPEEDUP, low=SPEEDUP, high=SPEEDUP),
        ),
    }
    return Case(**{**given, **change})  # type: ignore[arg-type]
