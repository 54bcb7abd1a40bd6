"""The calibration set as a transform sees it: token sequences, and the hash that names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgebench.errors import SpecError

DEFAULT_SAMPLES = 128  # as many as GPTQ and AWQ take; fewer where a set has fewer


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSet:
    """What a transform may learn activations from; shares no call with what is scored.

    sequences: token ids of prompt and call, end-of-sequence included, in the set's own order.
    """

    sha256: str
    """Of the pairs as the workload pins them; the ledger names it (rule W-02)."""
    sequences: Sequence[Sequence[int]] = field(repr=False)

    def first(self, samples: int) -> list[list[int]]:
        """Return the first so many sequences: a fixed choice, so that a run can be repeated."""
        if not 1 <= samples <= len(self.sequences):
            raise SpecError(
                f"[calibration] expected samples to be 1..{len(self.sequences)}, got {samples}"
            )
        return [list(sequence) for sequence in self.sequences[:samples]]
