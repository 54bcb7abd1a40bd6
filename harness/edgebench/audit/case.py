"""The case: one kernel of a bundle, with everything that a test may plan by and judge by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edgebench.audit.intervals import Interval
from edgebench.audit.library import Library
from edgebench.loadgen import sample_schedule
from edgebench.profiles import SizeClass
from edgebench.record import Kernel, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much a test runs. A unit is one query: of one sample, or offline of one batch."""

    pairs: int
    """Units of a paired comparison of times."""
    answers: int
    """Samples of a comparison of answers."""
    logits: int
    """Samples whose full logits are compared."""


# Ours: on 2 quiet cores an audit of `assistant` took two minutes (docs/audit.md).
COUNTS: Mapping[tuple[SizeClass, Scenario], Counts] = {
    ("embedded", "single-stream"): Counts(pairs=96, answers=400, logits=32),
    ("embedded", "offline"): Counts(pairs=12, answers=512, logits=32),
    ("large", "single-stream"): Counts(pairs=16, answers=32, logits=4),
    ("large", "offline"): Counts(pairs=6, answers=64, logits=4),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """What a bundle filed of one sample: the right call, and its negative log-likelihood."""

    call: tuple[int, ...]
    """Token ids, end-of-sequence included."""
    nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What the bundle says of this kernel, as far as it can be compared here."""

    outputs: Mapping[int, tuple[int, ...]] = field(default_factory=dict, repr=False)
    """Scored sample -> output ids, end-of-sequence included."""
    incomparable: str | None = None
    """Why outputs here may be others by rounding; their accuracy is compared all the same."""
    likelihood: Mapping[int, Likelihood] = field(default_factory=dict, repr=False)
    """Of scored samples, those that have one."""
    speedup: Interval | None = None
    """Over fp16, with its 95 % interval; None where no time is compared with the bundle's."""
    untimed: str = "the bundle claims no speedup"
    """Why there is no speedup to compare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel under audit."""

    kernel: Kernel
    scenario: Scenario
    scored: Library
    unseen: Library | None
    """Questions of the same grammar outside the scored set; None where nothing makes them."""
    counts: Counts
    batch_size: int
    """Samples of a unit: 1 in single-stream."""
    published_seed: int
    """The bundle's seed of sample indices."""
    seed: int
    """The audit's own, which nobody knew beforehand."""
    claimed: Claimed
    reference: str | None = None
    """None where an fp16 reference stands beside; else why there is none for this kernel."""

    def again(self, number: int) -> Case:
        """The same case with draws of its own, for another round of a test that was unsure."""
        return replace(self, seed=self.derived_seed(f"round {number}"))

    def derived_seed(self, purpose: str) -> int:
        """An independent seed for one purpose."""
        digest = hashlib.sha256(f"{self.seed}/{self.kernel}/{purpose}".encode()).digest()
        return int.from_bytes(digest[:8], "big")

    def draw(self, purpose: str, count: int, population: int | None = None) -> tuple[int, ...]:
        """Distinct samples of the scored set in an order of the audit's own, `count` at most."""
        size = len(self.scored) if population is None else population
        return sample_schedule(self.derived_seed(purpose), size, min(count, size), distinct=True)

    def published(self, count: int, population: int | None = None) -> tuple[int, ...]:
        """The first samples of the schedule that the bundle ran, `count` at most."""
        size = len(self.scored) if population is None else population
        return sample_schedule(self.published_seed, size, min(count, size), distinct=True)

    def units(self, samples: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Cut samples into queries; a last one that is not whole is left out, unless alone."""
        size = max(1, min(self.batch_size, len(samples)))
        return [samples[i : i + size] for i in range(0, len(samples) - size + 1, size)]
