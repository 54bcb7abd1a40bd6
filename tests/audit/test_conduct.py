"""Conducting: what a system cannot do is said and never passed; a fault ends one test, not all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgebench.audit import TESTS
from edgebench.audit.auditee import Auditee
from edgebench.audit.case import Claimed, Likelihood
from edgebench.audit.conduct import Judged, conduct
from edgebench.audit.intervals import Interval
from edgebench.audit.likelihood import CLAIM, nats
from edgebench.audit.runs import Part, Run, alternated, blocks_of
from edgebench.loadgen import QuerySample, SystemUnderTest
from tests.audit.doubles import (
    SPEEDUP,
    Complete,
    Double,
    FirstToken,
    ModelSut,
    case_of,
    library_of,
    machine_of,
    right_answer,
)


def audited(
    names: str, *, change: dict[str, object] | None = None, **double: object
) -> list[Judged]:
    machine = machine_of(1)
    parts: dict[Part, Auditee] = {
        "submitted": Double(machine, **double),  # type: ignore[arg-type]
        "reference": Double(machine, work=SPEEDUP),
    }
    tests = [TESTS[name] for name in names.split(",")]
    return conduct(case_of(**(change or {})), tests, parts, clock=machine.clock)  # type: ignore[arg-type]


def test_a_closed_system_is_audited_as_far_as_it_goes() -> None:
    found = {one.test: one for one in audited(",".join(TESTS), is_closed=True)}
    assert found["perturbed"].verdict == "not applicable"
    assert found["perturbed"].note == "an external engine's model cannot be reached"
    for test, what in (("outputs", "full logits"), ("tokens", "first tokens unlike the answers'")):
        (measure,) = (one for one in found[test].measures if one.what == what)
        assert (measure.verdict, measure.note) == ("not applicable", found["perturbed"].note)
    rest = {name: one.verdict for name, one in found.items() if name != "perturbed"}
    assert rest == dict.fromkeys([name for name in TESTS if name != "perturbed"], "passed")


def test_what_a_case_lacks_is_not_applicable() -> None:
    change: dict[str, object] = {"unseen": None, "reference": "fp16 is the reference"}
    unseen, length = (one for name in ("unseen", "length") for one in audited(name, change=change))
    assert (unseen.verdict, length.verdict) == ("not applicable", "not applicable")
    assert "no generator" in unseen.note
    assert length.note == "fp16 is the reference"


def test_outputs_that_are_not_the_bundles_are_caught() -> None:
    others = Claimed(outputs=dict.fromkeys(range(600), (3, 2)))
    (found,) = audited("outputs", change={"claimed": others})
    caught = [one.what for one in found.measures if one.verdict == "caught"]
    assert caught == ["outputs unlike the bundle's"]


def test_other_rounding_is_no_fault_of_outputs() -> None:
    outputs = {i: tuple(right_answer(p)) for i, p in enumerate(case_of().scored.prompts)}
    others = Claimed(outputs=outputs, incomparable="another instruction set: avx2 here, neon there")
    (found,) = audited("outputs", change={"claimed": others})
    assert found.verdict == "passed"
    absent = {m.what: m.note for m in found.measures if m.verdict == "not applicable"}
    assert absent.pop(CLAIM)  # no likelihood was filed
    assert list(absent.values()) == ["another instruction set: avx2 here, neon there"]


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.0, "passed"), (0.95, "passed"), (0.85, "caught"), (0.0, "caught")]
)
def test_a_likelihood_that_is_only_claimed_is_caught(factor: float, verdict: str) -> None:
    case, double = case_of(), Double(machine_of(1))
    filed = {
        pair.sample: Likelihood(
            call=pair.output_ids, nats=factor * nats(pair.in_one_pass, pair.output_ids)
        )
        for pair in double.logits(case.scored, range(600))
    }
    (found,) = audited("outputs", change={"claimed": Claimed(likelihood=filed)})
    (measure,) = (one for one in found.measures if one.what == CLAIM)
    assert measure.verdict == verdict
    assert measure.value == pytest.approx(factor)


def test_the_likelihood_of_a_call_that_was_not_answered_is_not_compared() -> None:
    filed = {sample: Likelihood(call=(3, 2), nats=0.0) for sample in range(600)}
    (found,) = audited("outputs", change={"claimed": Claimed(likelihood=filed)})
    (measure,) = (one for one in found.measures if one.what == CLAIM)
    assert measure.verdict == "not applicable"


def test_nats_are_those_of_softmax() -> None:
    logits = np.array([[0.0, np.log(3.0)], [5.0, 5.0]], dtype=np.float32)
    assert nats(logits, (1, 0)) == pytest.approx(np.log(4 / 3) + np.log(2))


class Breaks(ModelSut):
    def issue_query(
        self, samples: Sequence[QuerySample], first_token: FirstToken, complete: Complete
    ) -> None:
        raise ValueError("out of luck")


def test_a_test_that_cannot_run_says_so_and_the_others_go_on() -> None:
    def broken(honest: ModelSut) -> SystemUnderTest:
        made.append(honest)
        is_first = len(made) == 1
        return Breaks(honest.machine, honest.library, honest.answer) if is_first else honest

    made: list[ModelSut] = []
    found = audited("caching,tokens", cheat=broken)
    assert [one.verdict for one in found] == ["failed", "passed"]
    assert "out of luck" in found[0].note


class Reports(ModelSut):
    """States its own count, too high by `more`."""

    more = 0

    def issue_query(
        self, samples: Sequence[QuerySample], first_token: FirstToken, complete: Complete
    ) -> None:
        self.counts = {}

        def completed(sample_id: int, output: Sequence[int]) -> None:
            self.counts[sample_id] = len(output) + self.more
            complete(sample_id, output)

        super().issue_query(samples, first_token, completed)

    def reported_tokens(self, sample_id: int) -> int:
        return self.counts[sample_id]


class Boasts(Reports):
    more = 1


@pytest.mark.parametrize(("kind", "verdict"), [(Reports, "passed"), (Boasts, "caught")])
@pytest.mark.parametrize("batch_size", [1, 16])
def test_reported_counts_are_held_to_the_tokens(
    kind: type[Reports], verdict: str, batch_size: int
) -> None:
    def reports(honest: ModelSut) -> SystemUnderTest:
        return kind(honest.machine, honest.library, honest.answer, batch_size=batch_size)

    (found,) = audited(
        "tokens", change={"batch_size": batch_size}, cheat=reports, batch_size=batch_size
    )
    (measure,) = (one for one in found.measures if one.what.startswith("reported"))
    assert (measure.verdict, found.verdict) == (verdict, verdict)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda ids: [*ids, 2], "tokens after end-of-sequence"),
        (lambda ids: ids[:-1], "answers that end early or run over"),
        (lambda ids: [ids[0] % 60 + 3, *ids[1:]], "first tokens unlike the answers'"),
    ],
    ids=["two-ends", "no-end", "other-first"],
)
def test_each_fault_of_tokens_is_counted_as_what_it_is(change: object, what: str) -> None:
    def faulty(honest: ModelSut) -> SystemUnderTest:
        answer = honest.answer
        honest.answer = lambda prompt: change(answer(prompt))  # type: ignore[operator]
        return honest

    (found,) = audited("tokens", cheat=faulty)
    assert [one.what for one in found.measures if one.verdict == "caught"] == [what]


def test_progress_counts_every_query_once() -> None:
    machine, told = machine_of(1), []
    parts: dict[Part, Auditee] = {"submitted": Double(machine), "reference": Double(machine)}
    tests = [TESTS["tokens"], TESTS["length"]]
    conduct(case_of(), tests, parts, lambda done, of: told.append((done, of)), machine.clock)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] == told[-1][1]
    assert len({of for _, of in told}) == 1


def test_ctrl_c_passes() -> None:
    class Interrupted(ModelSut):
        def issue_query(self, *arguments: object) -> None:
            raise KeyboardInterrupt

    def interrupted(honest: ModelSut) -> SystemUnderTest:
        return Interrupted(honest.machine, honest.library, honest.answer)

    with pytest.raises(KeyboardInterrupt):
        audited("tokens", cheat=interrupted)


def test_blocks_alternate_and_hold_every_query() -> None:
    library = library_of("scored", 600, 0)
    queries = [(sample,) for sample in range(10)]
    blocks = blocks_of(queries, 4)
    assert [query for block in blocks for query in block] == queries
    runs = {
        name: [Run(name=name, library=library, queries=block) for block in blocks] for name in "ab"
    }
    assert "".join(run.name for run in alternated(("a", "b"), runs)) == "abbaabba"
    assert blocks_of(queries[:2], 4) == [(queries[0],), (queries[1],)]


@pytest.mark.parametrize(
    ("claimed", "verdict"), [(2.0, "passed"), (1.0, "passed"), (2.5, "unsure"), (4.0, "unsure")]
)
def test_a_speedup_that_is_not_reached_leaves_it_unsure(claimed: float, verdict: str) -> None:
    """This machine has 2.0; a bundle may not claim more than it by a tenth."""
    speedup = Interval(value=claimed, low=claimed, high=claimed)
    (found,) = audited("claims", change={"claimed": Claimed(speedup=speedup)})
    assert found.verdict == verdict
    assert f"{claimed:.2f} claimed" in found.measures[0].note


def test_no_time_is_compared_where_the_bundle_cannot_be() -> None:
    (found,) = audited("claims", change={"claimed": Claimed(untimed="another system")})
    assert (found.verdict, found.note) == ("not applicable", "another system")


def noisy(noise: float) -> tuple[Judged, list[tuple[int, int]]]:
    machine, told = machine_of(1, noise=noise), []
    parts: dict[Part, Auditee] = {"submitted": Double(machine)}
    (found,) = conduct(
        case_of(), [TESTS["seeds"]], parts, lambda *step: told.append(step), machine.clock
    )
    return found, told


def test_an_unsure_test_runs_again_and_is_judged_by_all_of_it() -> None:
    plan = TESTS["seeds"].plan_runs(case_of())
    queries = sum(len(run.queries) for run in plan)
    sure, _ = noisy(0.01)
    assert (sure.verdict, sure.runs, sure.queries) == ("passed", len(plan), queries)
    torn, told = noisy(1.0)
    assert (torn.verdict, torn.runs, torn.queries) == ("unsure", 3 * len(plan), 3 * queries)
    assert told[-1] == (3 * queries, 3 * queries)
    assert [of for _, of in told] == sorted(of for _, of in told)


def test_another_round_draws_anew() -> None:
    case = case_of()
    first, again = (TESTS["seeds"].plan_runs(one) for one in (case, case.again(1)))
    samples = [
        [query for run in plan for query in run.queries if run.name == "others"]
        for plan in (first, again)
    ]
    assert samples[0] != samples[1]
    assert case.again(1).seed != case.again(2).seed
