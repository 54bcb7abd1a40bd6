"""Systems under test that cheat, each around an honest one; they ask it only when they must.

`quick_ns` is what the clock passes while a cheat answers without working.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from edgebench.loadgen import QuerySample, SystemUnderTest
from tests.audit.doubles import Complete, FirstToken

Prompt = tuple[int, ...]
QUICK_NS = 20_000


class Cheat:
    """Answers what it can at once, and hands the rest of a query to the honest system."""

    def __init__(self, honest: SystemUnderTest, pass_ns: Callable[[float], None]) -> None:
        self.name = "cheat"
        self.honest, self.pass_ns = honest, pass_ns

    def at_once(self, sample: QuerySample) -> Sequence[int] | None:
        """The answer that needs no work; None if it has to be computed."""
        return None

    def learn(self, sample: QuerySample, output: Sequence[int]) -> None:
        """See an answer that was computed."""

    def shown(self, sample: QuerySample, output: Sequence[int]) -> Sequence[int]:
        """What is shown of a computed answer."""
        return output

    def issue_query(
        self, samples: Sequence[QuerySample], first_token: FirstToken, complete: Complete
    ) -> None:
        left = []
        for sample in samples:
            answer = self.at_once(sample)
            if answer is None:
                left.append(sample)
                continue
            self.pass_ns(QUICK_NS)
            first_token(sample.id)
            self.pass_ns(QUICK_NS)
            complete(sample.id, answer)
        by_id = {sample.id: sample for sample in left}

        def completed(sample_id: int, output: Sequence[int]) -> None:
            self.learn(by_id[sample_id], output)
            complete(sample_id, self.shown(by_id[sample_id], output))

        if left:
            self.worker(left).issue_query(left, first_token, completed)

    def worker(self, samples: Sequence[QuerySample]) -> SystemUnderTest:
        """Who computes."""
        return self.honest


class Caches(Cheat):
    """Keeps every answer under a key of the sample: its index, or its content."""

    def __init__(
        self,
        honest: SystemUnderTest,
        pass_ns: Callable[[float], None],
        key: Callable[[QuerySample], Hashable],
    ) -> None:
        super().__init__(honest, pass_ns)
        self.key = key
        self.kept: dict[Hashable, Sequence[int]] = {}

    def at_once(self, sample: QuerySample) -> Sequence[int] | None:
        return self.kept.get(self.key(sample))

    def learn(self, sample: QuerySample, output: Sequence[int]) -> None:
        self.kept[self.key(sample)] = output


class Truncates(Cheat):
    """Ends every answer at two thirds of it, end-of-sequence put behind."""

    def shown(self, sample: QuerySample, output: Sequence[int]) -> Sequence[int]:
        return [*output[: max(1, 2 * len(output) // 3)], 2] if len(output) > 3 else output


class SkipsWhenTimed(Cheat):
    """Works honestly while indices come in order, as an accuracy run issues them; else hastily."""

    def __init__(
        self, honest: SystemUnderTest, hasty: SystemUnderTest, pass_ns: Callable[[float], None]
    ) -> None:
        super().__init__(honest, pass_ns)
        self.hasty, self.next_index = hasty, 0

    def worker(self, samples: Sequence[QuerySample]) -> SystemUnderTest:
        indices = [sample.index for sample in samples]
        start = 0 if indices[0] == 0 else self.next_index
        in_order = indices == list(range(start, start + len(indices)))
        self.next_index = indices[-1] + 1
        return self.honest if in_order else self.hasty


class Recognises(Cheat):
    """Works honestly on questions of the scored set, hastily on any other."""

    def __init__(
        self,
        honest: SystemUnderTest,
        hasty: SystemUnderTest,
        pass_ns: Callable[[float], None],
        is_scored: Callable[[QuerySample], bool],
    ) -> None:
        super().__init__(honest, pass_ns)
        self.hasty, self.is_scored = hasty, is_scored

    def worker(self, samples: Sequence[QuerySample]) -> SystemUnderTest:
        return self.honest if all(map(self.is_scored, samples)) else self.hasty


class Precomputed(Cheat):
    """Holds the answers to the scored questions; computes any other.

    A patient one lets the model work before it shows its own answer, so no speed tells of it.
    """

    def __init__(
        self,
        honest: SystemUnderTest,
        pass_ns: Callable[[float], None],
        prompt_of: Callable[[QuerySample], Prompt],
        table: Mapping[Prompt, Sequence[int]],
        *,
        is_patient: bool = False,
    ) -> None:
        super().__init__(honest, pass_ns)
        self.prompt_of, self.table, self.is_patient = prompt_of, table, is_patient

    def at_once(self, sample: QuerySample) -> Sequence[int] | None:
        return None if self.is_patient else self.table.get(self.prompt_of(sample))

    def shown(self, sample: QuerySample, output: Sequence[int]) -> Sequence[int]:
        return self.table.get(self.prompt_of(sample), output)


class StreamsAtTheEnd(Cheat):
    """Says that the first token is there when the last one is."""

    def issue_query(
        self, samples: Sequence[QuerySample], first_token: FirstToken, complete: Complete
    ) -> None:
        def completed(sample_id: int, output: Sequence[int]) -> None:
            first_token(sample_id)
            complete(sample_id, output)

        self.honest.issue_query(samples, lambda sample_id: None, completed)
