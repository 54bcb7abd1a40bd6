"""A workload of text, ready to be measured: prompts to answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgebench.accuracy import call_nll_rows
from edgebench.answers import AnswerKey
from edgebench.errors import SpecError
from edgebench.kernel_engine import KernelEngine
from edgebench.loadgen import SystemUnderTest
from edgebench.open_model import not_closed, shape_of
from edgebench.prepared import PreparedWorkload, Update
from edgebench.record import NllRow
from edgebench.sut import EngineSut
from edgebench.transform.changed import ChangedModel

if TYPE_CHECKING:
    from edgebench_workloads.assistant.dataset import Pair

CONFIG_FILE = "config.json"
NLL_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedText(PreparedWorkload):
    """See PreparedWorkload: prompts to answer.

    prompts and calls are token ids of the scored set, in order; a call ends with end-of-sequence.
    """

    tokenizer: Tokenizer
    eos_id: int
    pairs: Sequence[Pair]
    prompts: Sequence[Sequence[int]]
    calls: Sequence[Sequence[int]]
    changed: ChangedModel | None = None
    """The open track's model, where its steps made one."""

    @property
    def candidate_directory(self) -> Path:
        """The checkpoint that runs beside the reference, or is quantized to."""
        return self.directory if self.changed is None else self.changed.directory

    @property
    def not_closed(self) -> list[str]:
        """See PreparedWorkload."""
        if self.changed is None:
            return not_closed(self.ledger, None)
        from edgebench_kernels.engine import read_config

        return not_closed(self.ledger, shape_of(read_config(self.directory / CONFIG_FILE)))

    @property
    def kept_arrays(self) -> Mapping[str, NDArray[np.generic]]:
        """See PreparedWorkload."""
        if self.changed is None or self.ledger.open_model is None:
            return {}
        arrays = self.changed.arrays()
        return {name: arrays[name] for name in self.ledger.open_model.kept}

    @property
    def scored_count(self) -> int:
        """See PreparedWorkload."""
        return len(self.pairs)

    @property
    def input_tokens(self) -> Sequence[int]:
        """See PreparedWorkload."""
        return [len(prompt) for prompt in self.prompts]

    def judge(self) -> AnswerKey:
        """See PreparedWorkload."""
        return AnswerKey(
            decoder=self.tokenizer,
            eos_id=self.eos_id,
            expected=[pair.call for pair in self.pairs],
            is_correct=self.workload.is_correct,
        )

    def sut(self, engine: KernelEngine) -> SystemUnderTest:
        """See PreparedWorkload."""
        return EngineSut(
            name=f"{engine.kernel} ({engine.executed_path})",
            engine=engine.decoder,
            prompts=self.prompts,
            batch_size=engine.batch_size,
            max_new_tokens=self.workload.task.max_new_tokens,
            eos_id=self.eos_id,
        )

    def likelihood(self, engine: KernelEngine, samples: int, update: Update) -> Iterator[NllRow]:
        """See PreparedWorkload: of the call, end of sequence included."""
        prompts, calls = self.prompts[:samples], self.calls[:samples]
        return call_nll_rows(engine.kernel, engine.decoder, prompts, calls, NLL_BATCH, update)


def require_text(prepared: PreparedWorkload, what: str) -> PreparedText:
    """The same workload, which must be of text; SpecError says that `what` takes no other."""
    if not isinstance(prepared, PreparedText):
        name = prepared.workload.name
        raise SpecError(
            f"[{what}] expected a workload of text, got {name}, which is of images; choose another"
        )
    return prepared
