"""The same cheats over a real engine, `assistant` in INT4: its own answers, on our clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgebench.audit import TESTS
from edgebench.audit.auditee import Auditee
from edgebench.audit.case import Case, Claimed, Counts, Likelihood
from edgebench.audit.conduct import Judged, conduct
from edgebench.audit.libraries import scored_library, unseen_library
from edgebench.audit.library import Library, TextLibrary
from edgebench.audit.likelihood import CLAIM
from edgebench.audit.noise import NoisyLayer
from edgebench.audit.runs import Part
from edgebench.loadgen import QuerySample, SystemUnderTest
from tests.audit import cheats
from tests.audit.doubles import Complete, FirstToken, Machine, Wrapped, machine_of

if TYPE_CHECKING:
    from edgebench.audit.engine_auditee import EngineAuditee
    from edgebench.engines_cpu import CpuEngines
    from edgebench.kernel_engine import KernelEngine
    from edgebench.prepared_text import PreparedText

pytestmark = [pytest.mark.torch, pytest.mark.native]

COUNTS = Counts(pairs=24, answers=64, logits=4)


class Timed:
    """A real engine whose work passes time on our clock, `work` of what it is worth."""

    def __init__(
        self, inner: SystemUnderTest, machine: Machine, library: Library, work: float = 1.0
    ) -> None:
        self.name = "timed"
        assert isinstance(library, TextLibrary)
        self.inner, self.machine, self.library, self.work = inner, machine, library, work

    def issue_query(
        self, samples: Sequence[QuerySample], first_token: FirstToken, complete: Complete
    ) -> None:
        factor, clock = self.work * self.machine.factor(), self.machine.clock
        prompts = {s.id: self.library.prompts[s.index] for s in samples}

        def first(sample_id: int) -> None:
            clock.pass_ns(factor * self.machine.prefill_ns * len(prompts[sample_id]))
            first_token(sample_id)

        def completed(sample_id: int, output: Sequence[int]) -> None:
            clock.pass_ns(factor * self.machine.decode_ns * (len(output) - 1))
            complete(sample_id, output)

        self.inner.issue_query(samples, first, completed)


Make = Callable[["RealAuditee", Library, Timed], SystemUnderTest]


@dataclass(frozen=True, kw_only=True)
class RealAuditee(Wrapped):
    """An EngineAuditee on our clock, behind a cheat or none."""

    auditee: EngineAuditee
    machine: Machine
    scored: TextLibrary
    weak: Callable[[Library], SystemUnderTest]
    """A cheaper model's engine."""
    table: Mapping[cheats.Prompt, Sequence[int]]
    """The honest answers to the scored questions."""
    cheat: Make | None = None

    def timed(self, inner: SystemUnderTest, library: Library, work: float = 1.0) -> Timed:
        return Timed(inner, self.machine, library, work)

    def hasty(self, library: Library) -> Timed:
        return self.timed(self.weak(library), library, work=0.6)

    def _wrapped(self, inner: SystemUnderTest, library: Library) -> SystemUnderTest:
        honest = self.timed(inner, library)
        return honest if self.cheat is None else self.cheat(self, library, honest)


def cheaper(name: str, weights: np.ndarray) -> np.ndarray:
    """The weights of a model that is right less often: noise in four of six layers."""
    for layer in (1, 2, 3, 4):
        weights = NoisyLayer(layer=layer, seed=5)(name, weights)
    return weights


@dataclass(frozen=True, kw_only=True)
class Built:
    """What all tests share: it takes seconds to build."""

    prepared: PreparedText
    engines: CpuEngines
    engine: KernelEngine
    fp16: KernelEngine
    weak: KernelEngine
    scored: TextLibrary
    unseen: TextLibrary
    table: Mapping[cheats.Prompt, Sequence[int]]
    likelihood: Mapping[int, Likelihood]
    """As a run files it."""


@pytest.fixture(scope="module")
def built(kernels_left_alone: None) -> Built:
    from edgebench.engines_cpu import CpuEngines
    from edgebench.prepare import prepare
    from edgebench.progress import SilentProgress
    from edgebench.transform import parse_transform

    prepared = prepare("assistant", parse_transform("rtn"), SilentProgress())
    engines = CpuEngines(prepared, ("fp16", "int4"))
    engine = engines.for_scenario("int4", "single-stream")
    longest, eos = prepared.workload.task.max_new_tokens, prepared.eos_id
    answered = [
        engine.engine.generate_greedy([prompt], longest, eos)[0] for prompt in prepared.prompts
    ]
    scored, unseen = scored_library(prepared), unseen_library(prepared, 96, seed=11)
    assert isinstance(scored, TextLibrary)
    assert isinstance(unseen, TextLibrary)
    return Built(
        prepared=prepared,
        engines=engines,
        engine=engine,
        fp16=engines.for_scenario("fp16", "single-stream"),
        weak=engines.changed(engine, cheaper),
        scored=scored,
        unseen=unseen,
        table=dict(zip(map(tuple, prepared.prompts), answered, strict=True)),
        likelihood={
            row.sample: Likelihood(call=tuple(prepared.calls[row.sample]), nats=row.nll_nats)
            for row in prepared.likelihood(engine, COUNTS.answers, lambda *_: None)
        },
    )


def prompt_of(library: Library) -> Callable[[QuerySample], cheats.Prompt]:
    assert isinstance(library, TextLibrary)
    return lambda sample: tuple(library.prompts[sample.index])


def caches_by_index(own: RealAuditee, library: Library, honest: Timed) -> SystemUnderTest:
    return cheats.Caches(honest, own.machine.clock.pass_ns, lambda sample: sample.index)


def caches_by_content(own: RealAuditee, library: Library, honest: Timed) -> SystemUnderTest:
    return cheats.Caches(honest, own.machine.clock.pass_ns, prompt_of(library))


def truncates(own: RealAuditee, library: Library, honest: Timed) -> SystemUnderTest:
    return cheats.Truncates(honest, own.machine.clock.pass_ns)


def skips_when_timed(own: RealAuditee, library: Library, honest: Timed) -> SystemUnderTest:
    return cheats.SkipsWhenTimed(honest, own.hasty(library), own.machine.clock.pass_ns)


def recognises(own: RealAuditee, library: Library, honest: Timed) -> SystemUnderTest:
    scored, of = set(map(tuple, own.scored.prompts)), prompt_of(library)
    pass_ns = own.machine.clock.pass_ns
    return cheats.Recognises(honest, own.hasty(library), pass_ns, lambda s: of(s) in scored)


def precomputed(own: RealAuditee, library: Library, honest: Timed) -> SystemUnderTest:
    """The bundle's own answers, shown when the model is done: right, and right on time."""
    of, pass_ns = prompt_of(library), own.machine.clock.pass_ns
    return cheats.Precomputed(honest, pass_ns, of, own.table, is_patient=True)


def streams_at_the_end(own: RealAuditee, library: Library, honest: Timed) -> SystemUnderTest:
    return cheats.StreamsAtTheEnd(honest, own.machine.clock.pass_ns)


CHEATS: dict[str, tuple[Make, str]] = {
    "caches by index": (caches_by_index, "caching"),
    "caches by content": (caches_by_content, "caching"),
    "truncates": (truncates, "length"),
    "skips when timed": (skips_when_timed, "outputs"),
    "recognises the benchmark": (recognises, "unseen"),
    "precomputed answers": (precomputed, "perturbed"),
    "streams at the end": (streams_at_the_end, "tokens"),
}


def audited(built: Built, cheat: Make | None, *names: str) -> dict[str, Judged]:
    from edgebench.audit.engine_auditee import EngineAuditee

    def auditee(engine: KernelEngine, cheat: Make | None) -> RealAuditee:
        own = EngineAuditee(built.engines, engine, seed=3)
        weak = EngineAuditee(built.engines, built.weak, seed=3).sut
        return RealAuditee(
            auditee=own,
            machine=machine,
            scored=built.scored,
            weak=weak,
            table=built.table,
            cheat=cheat,
        )

    machine = machine_of(1)
    parts: dict[Part, Auditee] = {
        "submitted": auditee(built.engine, cheat),
        "reference": auditee(built.fp16, None),
    }
    case = Case(
        kernel="int4",
        scenario="single-stream",
        scored=built.scored,
        unseen=built.unseen,
        counts=COUNTS,
        batch_size=1,
        published_seed=42,
        seed=3,
        claimed=Claimed(
            outputs={i: tuple(built.table[tuple(p)]) for i, p in enumerate(built.scored.prompts)},
            incomparable="no bundle here",
            likelihood=built.likelihood,
        ),
    )
    tests = [TESTS[name] for name in names or TESTS]
    return {one.test: one for one in conduct(case, tests, parts, clock=machine.clock)}


def test_the_likelihood_that_a_run_files_is_that_of_the_logits(built: Built) -> None:
    (found,) = audited(built, None, "outputs").values()
    (measure,) = (one for one in found.measures if one.what == CLAIM)
    assert measure.verdict == "passed"
    assert measure.value == pytest.approx(1, abs=1e-3)


def test_an_honest_engine_passes(built: Built) -> None:
    names = [name for name in TESTS if name != "claims"]  # there is no bundle that could claim
    found = audited(built, None, *names)
    assert {name: one.verdict for name, one in found.items()} == dict.fromkeys(names, "passed")
    absent = [m.note for one in found.values() for m in one.measures if m.verdict != "passed"]
    assert absent == [
        "no bundle here",
        "the system reports no count beside the tokens themselves",
    ]


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheating_engine_is_caught_by_its_test(cheat: str, built: Built) -> None:
    make, test = CHEATS[cheat]
    assert audited(built, make, test)[test].verdict == "caught"


def test_noise_keeps_every_choice_of_an_engine(built: Built) -> None:
    for engine in (built.engine, built.fp16):
        noisy = built.engines.changed(engine, NoisyLayer(layer=0, seed=1))
        assert noisy.engine.describe() == engine.engine.describe()
        assert noisy.weight_bytes == engine.weight_bytes
        assert replace(noisy, engine=engine.engine, packed=engine.packed) == engine


@pytest.fixture(scope="module")
def sparse(built: Built) -> Built:
    """The same over a 2:4 model, on the path that the bundle names: a race may choose another."""
    from edgebench.engines_cpu import CpuEngines
    from edgebench.prepare import prepare
    from edgebench.progress import SilentProgress
    from edgebench.transform import parse_transform

    prepared = prepare("assistant", parse_transform("prune:magnitude=2:4+rtn"), SilentProgress())
    engines = CpuEngines(prepared, ("fp16", "int4"))
    engine = engines.for_scenario("int4", "single-stream", "w4a16-2:4/of another machine")
    assert engine.engine is engines._sparse
    return replace(built, prepared=prepared, engines=engines, engine=engine)


def test_a_2_4_engine_stays_one_around_noise_and_passes(sparse: Built) -> None:
    noisy = sparse.engines.changed(sparse.engine, NoisyLayer(layer=0, seed=1))
    assert noisy.weight_bytes == sparse.engine.weight_bytes, "the dense one reads more"
    assert noisy.executed_path == sparse.engine.executed_path
    assert audited(sparse, None, "perturbed")["perturbed"].verdict == "passed"


@pytest.mark.parametrize("named", ["w4a16/avx2", "w4a16-2:4/avx2", "w4a8/avx2", "another", ""])
def test_an_engine_takes_the_path_that_is_named_where_there_is_one(
    named: str, sparse: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgebench import engines_cpu

    raced: list[set[str]] = []

    def race(engines: Mapping[str, object], *_: object) -> str:
        raced.append(set(engines))
        return "w4a16"

    monkeypatch.setattr(engines_cpu, "faster_path", race)
    path = sparse.engines.for_scenario("int4", "single-stream", named).executed_path
    is_known = named.startswith("w4a16")  # w4a8 is no path of single-stream
    assert path.partition("/")[0] == (named.partition("/")[0] if is_known else "w4a16")
    assert raced == ([] if is_known else [{"w4a16", "w4a16-2:4"}])


def test_a_layer_left_out_shows_in_the_logits_of_answers_that_stay(built: Built) -> None:
    """The limit of `outputs` on logits lies between an honest engine and the least cheat."""
    from edgebench.audit.engine_auditee import EngineAuditee
    from edgebench.audit.outputs import LOGITS_LIMIT, distance

    samples = range(6)
    noisy = built.engines.changed(built.engine, NoisyLayer(layer=3, seed=1))
    honest = list(EngineAuditee(built.engines, built.engine, 1).logits(built.scored, samples))
    other = list(EngineAuditee(built.engines, noisy, 1).logits(built.scored, samples))
    assert max(map(distance, honest)) < LOGITS_LIMIT / 2
    staying = [
        replace(one, by_step=two.by_step)
        for one, two in zip(honest, other, strict=True)
        if one.output_ids == two.output_ids
    ]
    assert staying, "noise in this layer leaves most answers"
    assert min(map(distance, staying)) > LOGITS_LIMIT
