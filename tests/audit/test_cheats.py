"""Every cheat is caught by the test that is there for it; an honest system passes, 20 times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import ClassVar

import pytest

from edgebench.audit import TESTS
from edgebench.audit.auditee import Auditee
from edgebench.audit.case import Claimed, Counts
from edgebench.audit.conduct import Judged, conduct
from edgebench.audit.judgement import Verdict
from edgebench.audit.runs import Part
from edgebench.audit.shares import CLAIM, claimed_accuracy
from edgebench.loadgen import QuerySample, SystemUnderTest
from tests.audit import cheats
from tests.audit.doubles import (
    SPEEDUP,
    Double,
    ModelSut,
    case_of,
    hasty_answer,
    library_of,
    machine_of,
    right_answer,
)

SEEDS = range(20)
BATCHES = (1, 16)
TABLE = {tuple(prompt): right_answer(prompt) for prompt in library_of("scored", 600, 0).prompts}


def prompt_of(honest: ModelSut) -> Callable[[QuerySample], cheats.Prompt]:
    return lambda sample: tuple(honest.library.prompts[sample.index])


def hasty(honest: ModelSut) -> ModelSut:
    return ModelSut(
        honest.machine, honest.library, hasty_answer, batch_size=honest.batch_size, work=0.5
    )


def caches_by_index(honest: ModelSut) -> SystemUnderTest:
    return cheats.Caches(honest, honest.machine.clock.pass_ns, lambda sample: sample.index)


def caches_by_content(honest: ModelSut) -> SystemUnderTest:
    return cheats.Caches(honest, honest.machine.clock.pass_ns, prompt_of(honest))


def truncates(honest: ModelSut) -> SystemUnderTest:
    return cheats.Truncates(honest, honest.machine.clock.pass_ns)


def skips_when_timed(honest: ModelSut) -> SystemUnderTest:
    return cheats.SkipsWhenTimed(honest, hasty(honest), honest.machine.clock.pass_ns)


def recognises(honest: ModelSut) -> SystemUnderTest:
    is_scored = lambda sample: prompt_of(honest)(sample) in TABLE  # noqa: E731
    return cheats.Recognises(honest, hasty(honest), honest.machine.clock.pass_ns, is_scored)


def skips_and_answers_well(honest: ModelSut) -> SystemUnderTest:
    """Layers that a model can do without: the answers stay, the speed does not."""
    quick = ModelSut(
        honest.machine, honest.library, honest.answer, batch_size=honest.batch_size, work=0.7
    )
    return cheats.SkipsWhenTimed(honest, quick, honest.machine.clock.pass_ns)


def precomputed(honest: ModelSut, *, is_patient: bool = False) -> SystemUnderTest:
    pass_ns, of = honest.machine.clock.pass_ns, prompt_of(honest)
    return cheats.Precomputed(honest, pass_ns, of, TABLE, is_patient=is_patient)


def streams_at_the_end(honest: ModelSut) -> SystemUnderTest:
    return cheats.StreamsAtTheEnd(honest, honest.machine.clock.pass_ns)


CHEATS: dict[str, tuple[Callable[[ModelSut], SystemUnderTest], str]] = {
    "caches by index": (caches_by_index, "caching"),
    "caches by content": (caches_by_content, "caching"),
    "truncates": (truncates, "length"),
    "skips when timed": (skips_when_timed, "outputs"),
    "skips when timed, answers well": (skips_and_answers_well, "outputs"),
    "recognises the benchmark": (recognises, "unseen"),
    "precomputed answers": (precomputed, "perturbed"),
    "precomputed answers, shown late": (partial(precomputed, is_patient=True), "perturbed"),
    "streams at the end": (streams_at_the_end, "tokens"),
}


def audited(
    seed: int,
    batch_size: int,
    cheat: Callable[[ModelSut], SystemUnderTest] | None = None,
    *names: str,
    **change: float,
) -> dict[str, Judged]:
    machine = machine_of(seed, **change)
    parts: dict[Part, Auditee] = {
        "submitted": Double(machine, batch_size, cheat),
        "reference": Double(machine, batch_size, work=SPEEDUP),
    }
    case = case_of(seed=seed, batch_size=batch_size)
    tests = [TESTS[name] for name in names or TESTS]
    return {one.test: one for one in conduct(case, tests, parts, clock=machine.clock)}


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("seed", SEEDS)
def test_an_honest_system_passes_every_test(seed: int, batch_size: int) -> None:
    verdicts = {name: one.verdict for name, one in audited(seed, batch_size).items()}
    expected: dict[str, Verdict] = dict.fromkeys(TESTS, "passed")
    if batch_size > 1:
        expected["claims"] = "not applicable"  # offline speedups are not claimed of single batches
    assert verdicts == expected


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("cheat", CHEATS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_cheat_is_caught_by_its_test(cheat: str, seed: int, batch_size: int) -> None:
    make, test = CHEATS[cheat]
    assert audited(seed, batch_size, make, test)[test].verdict == "caught"


def test_a_cache_by_index_is_told_from_one_by_content() -> None:
    def caught(make: Callable[[ModelSut], SystemUnderTest]) -> set[str]:
        measures = audited(1, 1, make, "caching")["caching"].measures
        return {one.what.split()[-4] for one in measures if one.verdict == "caught"}

    assert caught(caches_by_index) == {"repeat"}
    assert caught(caches_by_content) == {"repeat", "copy"}


def test_a_prompt_cache_shows_in_the_first_token() -> None:
    """Half of the prefill saved on a repeat: the whole answer is too little faster to tell."""

    class KeepsPrompts(cheats.Cheat):
        seen: ClassVar[set[int]] = set()

        def worker(self, samples: list[QuerySample]) -> SystemUnderTest:  # type: ignore[override]
            honest = self.honest
            assert isinstance(honest, ModelSut)
            known = all(sample.index in self.seen for sample in samples)
            self.seen.update(sample.index for sample in samples)
            honest.machine.prefill_ns = 25_000.0 if known else 50_000.0
            return honest

    found = audited(1, 1, lambda honest: KeepsPrompts(honest, honest.machine.clock.pass_ns),
                    "caching", decode_ns=4e6)["caching"]  # fmt: skip
    verdicts = {one.what: one.verdict for one in found.measures}
    assert verdicts["first token, repeat / first time"] == "caught"
    assert verdicts["latency, repeat / first time"] == "passed"


@pytest.mark.parametrize(
    ("work", "verdict"), [(1.0, "passed"), (0.97, "passed"), (0.93, "caught"), (1.2, "caught")]
)
def test_another_order_may_cost_five_percent(work: float, verdict: Verdict) -> None:
    class KnowsTheOrder(cheats.Cheat):
        """Is off by a factor wherever the published successor does not come."""

        def __init__(self, honest: ModelSut) -> None:
            super().__init__(honest, honest.machine.clock.pass_ns)
            order = case_of().published(600)
            self.after = dict(pairwise(order))
            self.expected: int | None = None

        def worker(self, samples: list[QuerySample]) -> SystemUnderTest:  # type: ignore[override]
            assert isinstance(self.honest, ModelSut)
            known = self.expected == samples[0].index
            self.expected = self.after.get(samples[-1].index)
            self.honest.work = 1.0 if known else work
            return self.honest

    found = audited(3, 1, KnowsTheOrder, "seeds", noise=0.01, swing=0.01)["seeds"]
    assert found.verdict == verdict


def worse(honest: ModelSut) -> ModelSut:
    """A model that is right on 92 of a hundred questions, always the same ones."""

    def answer(prompt: Sequence[int]) -> list[int]:
        return hasty_answer(prompt) if sum(prompt) % 100 < 8 else right_answer(prompt)

    return ModelSut(honest.machine, honest.library, answer, batch_size=honest.batch_size)


@pytest.mark.parametrize("incomparable", [None, "another path"])
@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_forged_accuracy_is_caught_on_any_machine(
    seed: int, batch_size: int, incomparable: str | None
) -> None:
    """The bundle files a better model's answers, and names a path that exists nowhere."""
    machine, scored = machine_of(seed), library_of("scored", 600, 0)
    forged = Claimed(
        outputs={i: tuple(right_answer(p)) for i, p in enumerate(scored.prompts)},
        incomparable=incomparable,
    )
    counts = Counts(pairs=12 if batch_size > 1 else 48, answers=400, logits=8)
    case = case_of(seed=seed, batch_size=batch_size, claimed=forged, counts=counts)
    parts: dict[Part, Auditee] = {"submitted": Double(machine, batch_size, worse)}
    tests = [TESTS["seeds"], TESTS["outputs"]]
    for one in conduct(case, tests, parts, clock=machine.clock):
        measured = {m.what: m.verdict for m in one.measures}
        assert measured[CLAIM] == "caught"
        assert measured.get("outputs unlike the bundle's") in (
            None, "caught" if incomparable is None else "not applicable",
        )  # fmt: skip
        assert one.verdict == "caught"


def test_an_accuracy_that_was_claimed_of_other_samples_is_held_against_all() -> None:
    case = case_of()
    right = {i: tuple(right_answer(p)) for i, p in enumerate(case.scored.prompts)}
    wrong = dict.fromkeys(range(300, 400), (3, 2))
    filed = replace(case.claimed, outputs={i: right[i] for i in range(200)})
    assert claimed_accuracy(replace(case, claimed=filed), wrong).verdict == "caught"
    here = {i: right[i] for i in range(300, 400)}
    assert claimed_accuracy(replace(case, claimed=filed), here).verdict == "passed"
    nothing = replace(case, claimed=Claimed())
    assert claimed_accuracy(nothing, here).verdict == "not applicable"
