"""Our engines as an auditee: the same engine, its logits, and the same around a changed model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgebench.audit.auditee import LogitsPair
from edgebench.audit.built_auditee import BuiltAuditee
from edgebench.audit.library import Library, TextLibrary
from edgebench.audit.noise import NoisyLayer
from edgebench.kernel_engine import KernelEngine, WorkloadEngines
from edgebench.sut import EngineSut

if TYPE_CHECKING:
    from edgebench_kernels.engine import DecodeEngine


class EngineAuditee(BuiltAuditee):
    """One kernel of a workload, built as a run builds it; see Auditee."""

    def __init__(self, engines: WorkloadEngines, engine: KernelEngine, seed: int) -> None:
        super().__init__(engines, engine, NoisyLayer(layer=0, seed=seed))

    def sut(self, library: Library) -> EngineSut:
        """See Auditee."""
        return self._sut(self._engine, library)

    def perturbed(self, library: Library) -> EngineSut:
        """See Auditee: the weights of the first layer become noise of the same statistics.

        Noise in a later one is not enough: of 40 answers of `assistant`, 32 to 39 stay.
        """
        return self._sut(self._noisy(), library)

    def first_tokens(self, library: Library, samples: Sequence[int]) -> list[int]:
        """See Auditee: what prefill alone gives."""
        import torch

        engine, prompts = self._engine.decoder, _text(library).prompts
        tokens = []
        for sample in samples:
            prompt = list(prompts[sample])
            tokens += engine.prefill_greedy(torch.tensor([prompt]), [len(prompt)])
        return tokens

    def logits(self, library: Library, samples: Sequence[int]) -> Iterator[LogitsPair]:
        """See Auditee: prefill and decode, as a query runs, against `forward_all`, as NLL reads."""
        for sample in samples:
            yield _logits(self._engine.decoder, _text(library), sample)

    def _sut(self, engine: KernelEngine, library: Library) -> EngineSut:
        text = _text(library)
        return EngineSut(
            name=self.name,
            engine=engine.decoder,
            prompts=text.prompts,
            batch_size=engine.batch_size,
            max_new_tokens=text.max_new_tokens,
            eos_id=text.eos_id,
        )


def _text(library: Library) -> TextLibrary:
    assert isinstance(library, TextLibrary)
    return library


def _logits(engine: DecodeEngine, library: TextLibrary, sample: int) -> LogitsPair:
    import torch

    prompt = list(library.prompts[sample])
    steps = [engine.prefill(torch.tensor([prompt]), [len(prompt)])]
    output = [int(steps[0].argmax())]
    while output[-1] != library.eos_id and len(output) < library.max_new_tokens:
        steps.append(engine.decode(torch.tensor(output[-1:])))
        output.append(int(steps[-1].argmax()))
    row = [*prompt, *output[:-1]]
    every = engine.forward_all(torch.tensor([row]), [len(row)])[0, len(prompt) - 1 :]
    return LogitsPair(
        sample=sample,
        output_ids=tuple(output),
        by_step=np.concatenate([step.numpy() for step in steps]),
        in_one_pass=every.numpy(),
    )
