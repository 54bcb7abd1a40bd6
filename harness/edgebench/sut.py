"""The system under test: a decode engine behind the load generator's two callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgebench.loadgen import QuerySample

if TYPE_CHECKING:
    from edgebench_kernels.engine import DecodeEngine


class EngineSut:
    """Answers queries by greedy decoding; splits an offline query into batches of its own choice.

    Samples of one offline query are sorted by prompt length, which MLPerf allows inside one query.
    """

    def __init__(
        self,
        *,
        name: str,
        engine: DecodeEngine,
        prompts: Sequence[Sequence[int]],
        batch_size: int,
        max_new_tokens: int,
        eos_id: int,
    ) -> None:
        self.name = name
        self.engine = engine
        self.batch_size = batch_size
        self._prompts = prompts
        self._max_new_tokens = max_new_tokens
        self._eos_id = eos_id

    def issue_query(
        self,
        samples: Sequence[QuerySample],
        first_token: Callable[[int], None],
        complete: Callable[[int, Sequence[int]], None],
    ) -> None:
        """Answer every sample of the query; the callbacks take the sample's id."""
        ordered = sorted(samples, key=lambda sample: len(self._prompts[sample.index]))
        for start in range(0, len(ordered), self.batch_size):
            batch = ordered[start : start + self.batch_size]
            self._answer(batch, first_token, complete)

    def _answer(
        self,
        batch: Sequence[QuerySample],
        first_token: Callable[[int], None],
        complete: Callable[[int, Sequence[int]], None],
    ) -> None:
        self.engine.generate_greedy(
            [list(self._prompts[sample.index]) for sample in batch],
            max_new_tokens=self._max_new_tokens,
            eos_id=self._eos_id,
            on_first_token=lambda row: first_token(batch[row].id),
            on_complete=lambda row, ids: complete(batch[row].id, ids),
        )
