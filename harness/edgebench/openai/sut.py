"""The system under test behind HTTP: one streamed completion per sample, some of them at a time.

The first token is the arrival of the first event with text; the answer is complete when the event
with its finish_reason has arrived. Texts become token ids by the workload's own tokenizer after the
clock was read, so that nothing of ours but the parsing is charged to the server.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast, get_args, overload

from edgebench.loadgen import QuerySample
from edgebench.openai.connection import LIMITS, Connection, Limits, ServerFailed, shown
from edgebench.openai.events import deltas
from edgebench.openai.request import Door, EndReason, Task, request_body

FirstToken = Callable[[int], None]
Complete = Callable[[int, Sequence[int]], None]


class OutputIds(Sequence[int]):
    """Output ids that are encoded when they are first looked at."""

    def __init__(self, make: Callable[[], list[int]]) -> None:
        self._make = make
        self._ids: list[int] | None = None

    @property
    def ids(self) -> list[int]:
        """The ids themselves."""
        if self._ids is None:
            self._ids = self._make()
        return self._ids

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> list[int]: ...
    def __getitem__(self, place: int | slice) -> int | list[int]:
        return self.ids[place]

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer, with the tokens that the server counted where it said."""

    id: int
    sample: int
    output: OutputIds
    end: EndReason
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(slots=True)
class Oddities:
    """How many answers were unusual, and how."""

    answers: int = 0
    prompts: int = 0
    outputs: int = 0
    empty: int = 0

    def warnings(self) -> tuple[str, ...]:
        """Say what a reader should know beside the numbers."""
        said = (
            (self.prompts, "prompts were counted otherwise by the server than by the workload's "
             "tokenizer: it may have read other tokens"),
            (self.outputs, "answers were counted otherwise by the server than their text encodes: "
             "tokens/s and TPOT count the workload's tokens"),
            (self.empty, "answers were empty"),
        )  # fmt: skip
        return tuple(f"{count} of {self.answers} {text}" for count, text in said if count)


class OpenAiSut:
    """Answers queries through a server; an offline query keeps `concurrency` requests in flight."""

    def __init__(
        self,
        *,
        name: str,
        door: Door,
        task: Task,
        concurrency: int,
        limits: Limits = LIMITS,
        connections: Sequence[Connection] | None = None,
    ) -> None:
        """connections: so many that another system under test uses at other times."""
        self.name = name
        self.oddities = Oddities()
        self._door = door
        self._task = task
        self._connections = connections or [
            Connection(door.address, limits) for _ in range(concurrency)
        ]
        self._reported: dict[int, int] = {}

    def close(self) -> None:
        """Hang up."""
        for connection in self._connections:
            connection.close()

    def reported_tokens(self, sample_id: int) -> int | None:
        """Tokens that the server counted in the last answer to an id, end-of-sequence among them.

        None where it says no count.
        """
        return self._reported.get(sample_id)

    def issue_query(
        self, samples: Sequence[QuerySample], first_token: FirstToken, complete: Complete
    ) -> None:
        """Answer every sample of the query; raises ServerFailed, whichever thread met it."""
        answered: list[Answered] = []  # list.append is one step for all threads

        def answer(connection: Connection, sample: QuerySample) -> None:
            answered.append(self._answer(connection, sample, first_token, complete))

        if len(samples) == 1 or len(self._connections) == 1:
            for sample in samples:
                answer(self._connections[0], sample)
        else:
            _Crew(answer, samples).work(self._connections)
        for one in answered:
            self._account(one)

    def _answer(
        self,
        connection: Connection,
        sample: QuerySample,
        first_token: FirstToken,
        complete: Complete,
    ) -> Answered:
        pieces: list[str] = []
        end: EndReason | None = None
        prompt_tokens = completion_tokens = None
        output = OutputIds(lambda: self._task.output_ids("".join(pieces), end or "length"))
        body = request_body(self._door, self._task, sample.index)
        for delta in deltas(connection.post_lines(self._door.endpoint, body)):
            if delta.text and end is None:
                if not pieces:
                    first_token(sample.id)
                pieces.append(delta.text)
            if delta.finish_reason is not None and end is None:
                end = _end_of(delta.finish_reason, pieces)
                complete(sample.id, output)
            prompt_tokens = delta.prompt_tokens or prompt_tokens
            completion_tokens = delta.completion_tokens or completion_tokens
        return Answered(
            id=sample.id,
            sample=sample.index,
            output=output,
            end=end or "length",
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )

    def _account(self, one: Answered) -> None:
        """Compare the server's counts with ours; it may leave end-of-sequence out of its own."""
        own, odd = len(one.output), self.oddities
        odd.answers += 1
        odd.empty += one.end == "stop" and own == 1
        odd.prompts += one.prompt_tokens not in (None, len(self._task.prompts[one.sample]))
        without_end = own - (one.end == "stop")
        odd.outputs += one.completion_tokens not in (None, own, without_end)
        self._reported.pop(one.id, None)
        if one.completion_tokens is not None:
            leaves_end_out = one.completion_tokens == without_end
            self._reported[one.id] = own if leaves_end_out else one.completion_tokens


def _end_of(finish_reason: str, pieces: Sequence[str]) -> EndReason:
    if finish_reason not in get_args(EndReason):
        raise ServerFailed(
            f"[openai] expected an answer that ends by 'stop' or 'length', got "
            f"{shown(finish_reason)!r}"
        )
    if finish_reason == "length" and not pieces:
        raise ServerFailed("[openai] expected an answer with text, got an empty one of full length")
    return cast(EndReason, finish_reason)


class _Crew:
    """Threads that answer the samples of one query, each over its own connection.

    The first error stops all of them and is raised in the caller's thread; so does Ctrl-C.
    """

    def __init__(
        self, answer: Callable[[Connection, QuerySample], None], samples: Sequence[QuerySample]
    ) -> None:
        self._answer = answer
        self._waiting = iter(samples)
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def work(self, connections: Sequence[Connection]) -> None:
        """Return when every sample is answered."""
        threads = [
            threading.Thread(target=self._serve, args=(connection,), daemon=True)
            for connection in connections
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as err:
            self._stop(err)
            for connection in connections:
                connection.abort()
            raise
        if self._error is not None:
            raise self._error

    def _serve(self, connection: Connection) -> None:
        try:
            while (sample := self._next()) is not None:
                self._answer(connection, sample)
        except Exception as err:  # noqa: BLE001  raised again by `work`
            self._stop(err)

    def _next(self) -> QuerySample | None:
        with self._lock:
            return None if self._error is not None else next(self._waiting, None)

    def _stop(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
