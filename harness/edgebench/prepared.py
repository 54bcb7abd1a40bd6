"""A workload ready to be measured: what every kind of workload gives, be it text or images.

The measuring half asks nothing else about a kind. `prepare` makes one; the checker's counterpart is
`checker.subject.KnownWorkload`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench.answers import Judge
from edgebench.kernel_engine import KernelEngine
from edgebench.loadgen import SystemUnderTest
from edgebench.open_model import not_closed
from edgebench.record import Ledger, NllRow, WorkloadIdentity
from edgebench.transform.quantized import QuantizedModel
from edgebench_workloads.catalog import Workload

Update = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedWorkload(ABC):
    """Everything a scenario needs, with every byte that it came from already verified."""

    workload: Workload
    directory: Path
    quantized: QuantizedModel
    identity: WorkloadIdentity
    ledger: Ledger

    @property
    def not_closed(self) -> list[str]:
        """What disqualifies it from the closed track."""
        return not_closed(self.ledger, None)

    @property
    def kept_arrays(self) -> Mapping[str, NDArray[np.generic]]:
        """The open track's tensors that are filed in fp16; none where no step changed the model."""
        return {}

    @property
    def coded_bytes(self) -> bytes | None:
        """The open track's entropy-coded file; None where no step asked for one."""
        return None

    @property
    @abstractmethod
    def scored_count(self) -> int:
        """How many samples the scored set holds."""

    @property
    @abstractmethod
    def input_tokens(self) -> Sequence[int]:
        """How often each sample runs the model's body before its first answer; an image once."""

    @abstractmethod
    def judge(self) -> Judge:
        """Who says whether an output is right."""

    @abstractmethod
    def sut(self, engine: KernelEngine) -> SystemUnderTest:
        """Put a kernel's engine behind the load generator."""

    @abstractmethod
    def likelihood(self, engine: KernelEngine, samples: int, update: Update) -> Iterator[NllRow]:
        """The negative log-likelihood of the right answer, of the first so many samples."""
