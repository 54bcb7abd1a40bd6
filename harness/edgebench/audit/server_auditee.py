"""A server as an auditee: an external engine, asked over HTTP as a run asks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgebench.audit.auditee import LogitsPair, NotSupported
from edgebench.audit.library import Library, TextLibrary
from edgebench.loadgen import run_single_stream
from edgebench.openai.connection import Connection
from edgebench.openai.engine import External, text_task
from edgebench.openai.request import Task
from edgebench.openai.sut import OpenAiSut
from edgebench.prepared_text import PreparedText


class ServerAuditee:
    """An external engine; see Auditee. Whatever it learned from one system under test it keeps.

    All systems under test share its connections: a server may have a thread for each, and few.
    """

    def __init__(self, external: External, prepared: PreparedText, in_flight: int) -> None:
        self.name = f"the server at {external.served.address.shown}"
        self._external, self._prepared = external, prepared
        self._connections = [Connection(external.served.address) for _ in range(in_flight)]

    def sut(self, library: Library) -> OpenAiSut:
        """See Auditee."""
        return self._sut(self._task(library))

    def perturbed(self, library: Library) -> OpenAiSut:
        """See Auditee."""
        raise NotSupported("an external engine's weights cannot be reached")

    def first_tokens(self, library: Library, samples: Sequence[int]) -> list[int]:
        """See Auditee: answers of one token at most."""
        alone = self._sut(replace(self._task(library), max_new_tokens=1))
        timings = list(run_single_stream(alone, samples))
        return [timing.output_ids[0] for timing in timings]

    def logits(self, library: Library, samples: Sequence[int]) -> Iterator[LogitsPair]:
        """See Auditee."""
        raise NotSupported("a server shows text alone")

    def _task(self, library: Library) -> Task:
        assert isinstance(library, TextLibrary)
        return text_task(self._prepared, library.prompts)

    def _sut(self, task: Task) -> OpenAiSut:
        sut = OpenAiSut(
            name=self.name,
            door=self._external.door,
            task=task,
            concurrency=len(self._connections),
            connections=self._connections,
        )
        self._external.suts.append(sut)
        return sut
