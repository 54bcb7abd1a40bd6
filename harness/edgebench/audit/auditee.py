"""The auditee: whatever answers a library of questions, behind the load generator's callbacks.

Engines of ours are some (`engine_auditee`, `image_auditee`), an external server can be another.
What a system cannot do raises NotSupported with the reason; the test that needs it is then 'not
applicable', not passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edgebench.audit.library import Library
from edgebench.loadgen import SystemUnderTest

Logits = npt.NDArray[np.float32]


class NotSupported(Exception):
    """The auditee cannot do what a test needs; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsPair:
    """One sample's answer, step by step as it is timed, and its logits in one pass over it.

    Both logits are f32 [T, V], one row for each token of `output_ids`; of a class, one row. In one
    pass is as likelihood is read: of text over the whole row, of images over a large batch.
    """

    sample: int
    output_ids: tuple[int, ...]
    by_step: Logits = field(repr=False)
    in_one_pass: Logits = field(repr=False)


class Auditee(Protocol):
    """One kernel of a system, as the audit meets it."""

    @property
    def name(self) -> str:
        """What answers, for people."""

    def sut(self, library: Library) -> SystemUnderTest:
        """A fresh system under test over these questions, as a run would make it."""

    def perturbed(self, library: Library) -> SystemUnderTest:
        """The same system around a changed model; raises NotSupported."""

    def first_tokens(self, library: Library, samples: Sequence[int]) -> list[int]:
        """The first token of each answer, found without the rest; raises NotSupported."""

    def logits(self, library: Library, samples: Sequence[int]) -> Iterator[LogitsPair]:
        """Full logits of the timed path and of the one that accuracy reads; NotSupported."""


@runtime_checkable
class ReportsTokens(Protocol):
    """A system under test that can state how many tokens an answer had, beside the tokens."""

    def reported_tokens(self, sample_id: int) -> int | None:
        """Output tokens of the last answer to this sample id; None where it did not say."""
