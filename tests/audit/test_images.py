"""Audits of images: `wake` in INT4 as it is shipped, honest and cheating, on our clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgebench.audit import TESTS
from edgebench.audit.auditee import Auditee
from edgebench.audit.case import Case, Claimed, Counts, Likelihood
from edgebench.audit.conduct import Judged, conduct
from edgebench.audit.libraries import right_answers, scored_library, unseen_library
from edgebench.audit.library import ImageLibrary, Library
from edgebench.audit.likelihood import CLAIM
from edgebench.audit.noise import NoisyNetwork
from edgebench.audit.runs import Part
from edgebench.bundle import Bundle, read_bundle
from edgebench.errors import BundleError, RuleViolation
from edgebench.loadgen import QuerySample, SystemUnderTest
from edgebench.progress import SilentProgress
from edgebench_workloads.cache import CACHE_VARIABLE
from tests.audit import cheats
from tests.audit.doubles import Complete, FirstToken, Machine, Wrapped, machine_of

if TYPE_CHECKING:
    from edgebench.audit.image_auditee import ImageAuditee
    from edgebench.images.engines import CpuImageEngines
    from edgebench.images.prepared import PreparedImages
    from edgebench.kernel_engine import KernelEngine

pytestmark = [pytest.mark.torch, pytest.mark.native]

COUNTS = Counts(pairs=24, answers=96, logits=8)
IMAGE_NS = 1_000_000.0


def submitted(root: Path, track: str, index: int = 0) -> Bundle:
    found = sorted((root / "submissions" / track).glob("*/*/wake/single-stream/*"))
    return read_bundle(found[index])


class Timed:
    """A real engine whose images pass time on our clock, `work` of what they are worth."""

    def __init__(self, inner: SystemUnderTest, machine: Machine, work: float = 1.0) -> None:
        self.name = "timed"
        self.inner, self.machine, self.work = inner, machine, work

    def issue_query(
        self, samples: Sequence[QuerySample], first_token: FirstToken, complete: Complete
    ) -> None:
        factor = self.work * self.machine.factor()

        def completed(sample_id: int, output: Sequence[int]) -> None:
            self.machine.clock.pass_ns(factor * IMAGE_NS)
            complete(sample_id, output)

        self.inner.issue_query(samples, first_token, completed)


Make = Callable[["RealAuditee", ImageLibrary, Timed], SystemUnderTest]


@dataclass(frozen=True, kw_only=True)
class RealAuditee(Wrapped):
    """An ImageAuditee on our clock, behind a cheat or none."""

    auditee: ImageAuditee
    machine: Machine
    weak: ImageAuditee
    """A cheaper model's."""
    table: Mapping[bytes, Sequence[int]]
    """The honest answers to the scored images."""
    cheat: Make | None = None

    def hasty(self, library: Library) -> Timed:
        return Timed(self.weak.sut(library), self.machine, work=0.6)

    def _wrapped(self, inner: SystemUnderTest, library: Library) -> SystemUnderTest:
        assert isinstance(library, ImageLibrary)
        honest = Timed(inner, self.machine)
        return honest if self.cheat is None else self.cheat(self, library, honest)


@dataclass(frozen=True, kw_only=True)
class Built:
    """What all tests share."""

    prepared: PreparedImages
    engines: CpuImageEngines
    engine: KernelEngine
    fp16: KernelEngine
    scored: ImageLibrary
    unseen: ImageLibrary
    table: Mapping[bytes, Sequence[int]]
    likelihood: Mapping[int, Likelihood]


@pytest.fixture(scope="module")
def built(root: Path, kernels_left_alone: None) -> Built:
    from edgebench.audit.image_premises import filed_images
    from edgebench.images.engines import CpuImageEngines

    bundle = submitted(root, "closed")
    prepared = filed_images(bundle, None, SilentProgress())
    engines = CpuImageEngines(prepared, ("fp16", "int4"))
    named = {one.kernel: one.executed_path for one in bundle.record.results}
    engine = engines.for_scenario("int4", "single-stream", named["int4"])
    scored, unseen = scored_library(prepared), unseen_library(prepared, 400, seed=3)
    assert isinstance(scored, ImageLibrary)
    assert isinstance(unseen, ImageLibrary)
    answers = right_answers(prepared)
    sut, table = prepared.sut(engine), {}
    sut.issue_query(
        [QuerySample(i, i) for i in range(len(scored))],
        lambda _: None,
        lambda i, ids: table.update({scored.scenes[i].image.tobytes(): list(ids)}),
    )
    return Built(
        prepared=prepared,
        engines=engines,
        engine=engine,
        fp16=engines.for_scenario("fp16", "single-stream", named["fp16"]),
        scored=scored,
        unseen=unseen,
        table=table,
        likelihood={
            row.sample: Likelihood(call=tuple(answers[row.sample]), nats=row.nll_nats)
            for row in prepared.likelihood(engine, COUNTS.answers, lambda *_: None)
        },
    )


def image_of(library: ImageLibrary) -> Callable[[QuerySample], bytes]:
    return lambda sample: library.scenes[sample.index].image.tobytes()


def caches_by_index(own: RealAuditee, library: ImageLibrary, honest: Timed) -> SystemUnderTest:
    return cheats.Caches(honest, own.machine.clock.pass_ns, lambda sample: sample.index)


def caches_by_content(own: RealAuditee, library: ImageLibrary, honest: Timed) -> SystemUnderTest:
    return cheats.Caches(honest, own.machine.clock.pass_ns, image_of(library))


def skips_when_timed(own: RealAuditee, library: ImageLibrary, honest: Timed) -> SystemUnderTest:
    return cheats.SkipsWhenTimed(honest, own.hasty(library), own.machine.clock.pass_ns)


def recognises(own: RealAuditee, library: ImageLibrary, honest: Timed) -> SystemUnderTest:
    of, pass_ns = image_of(library), own.machine.clock.pass_ns
    return cheats.Recognises(honest, own.hasty(library), pass_ns, lambda s: of(s) in own.table)


def precomputed(own: RealAuditee, library: ImageLibrary, honest: Timed) -> SystemUnderTest:
    """The bundle's own answers, shown when the network is done: right, and right on time."""
    of, pass_ns = image_of(library), own.machine.clock.pass_ns
    return cheats.Precomputed(honest, pass_ns, of, own.table, is_patient=True)  # type: ignore[arg-type]


CHEATS: dict[str, tuple[Make, str]] = {
    "caches by index": (caches_by_index, "caching"),
    "caches by content": (caches_by_content, "caching"),
    "skips when timed": (skips_when_timed, "outputs"),
    "recognises the benchmark": (recognises, "unseen"),
    "precomputed answers": (precomputed, "perturbed"),
}


def audited(
    built: Built, cheat: Make | None, *names: str, batch_size: int = 1, **claims: object
) -> dict[str, Judged]:
    from edgebench.audit.image_auditee import ImageAuditee

    def auditee(engine: KernelEngine, cheat: Make | None) -> RealAuditee:
        own = replace(engine, batch_size=batch_size)
        weak = built.engines.changed(own, NoisyNetwork(seed=9))
        return RealAuditee(
            auditee=ImageAuditee(built.engines, own, 3),
            machine=machine,
            weak=ImageAuditee(built.engines, weak, 3),
            table=built.table,
            cheat=cheat,
        )

    machine = machine_of(1)
    parts: dict[Part, Auditee] = {
        "submitted": auditee(built.engine, cheat),
        "reference": auditee(built.fp16, None),
    }
    outputs = {
        i: tuple(built.table[scene.image.tobytes()]) for i, scene in enumerate(built.scored.scenes)
    }
    given: dict[str, object] = {"outputs": outputs, "likelihood": built.likelihood}
    case = Case(
        kernel="int4",
        scenario="single-stream" if batch_size == 1 else "offline",
        scored=built.scored,
        unseen=built.unseen,
        counts=COUNTS,
        batch_size=batch_size,
        published_seed=42,
        seed=3,
        claimed=Claimed(**{**given, **claims}),  # type: ignore[arg-type]
    )
    tests = [TESTS[name] for name in names or TESTS]
    return {one.test: one for one in conduct(case, tests, parts, clock=machine.clock)}


@pytest.mark.parametrize("batch_size", [1, 16])
def test_an_honest_network_passes(built: Built, batch_size: int) -> None:
    found = audited(built, None, batch_size=batch_size)
    verdicts = {name: one.verdict for name, one in found.items()}
    of_tokens = dict.fromkeys(("tokens", "length", "claims"), "not applicable")
    rest = [name for name in TESTS if name not in of_tokens]
    assert verdicts == dict.fromkeys(rest, "passed") | of_tokens
    assert "one class" in found["tokens"].note
    assert "one class" in found["length"].note
    measured = [m for one in found.values() for m in one.measures]
    assert {m.verdict for m in measured} == {"passed"}
    assert not [m.what for m in measured if "token" in m.what]


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheating_network_is_caught_by_its_test(cheat: str, built: Built) -> None:
    make, test = CHEATS[cheat]
    assert audited(built, make, test)[test].verdict == "caught"


def test_a_forged_likelihood_and_accuracy_are_caught(built: Built) -> None:
    right = {i: tuple(ids) for i, ids in enumerate(right_answers(built.prepared))}
    wrong = {i: (1 - ids[0],) for i, ids in right.items()}
    forged = {i: replace(one, nats=one.nats / 2) for i, one in built.likelihood.items()}
    honest = {m.what: m for m in audited(built, None, "outputs")["outputs"].measures}
    assert honest[CLAIM].value == pytest.approx(1, abs=1e-3)
    found = {
        m.what: m.verdict
        for m in audited(built, None, "outputs", likelihood=forged, outputs=wrong)[
            "outputs"
        ].measures
    }
    assert found[CLAIM] == "caught"
    assert found["outputs unlike the bundle's"] == "caught"


def test_noise_keeps_the_path_and_the_bytes(built: Built) -> None:
    for engine in (built.engine, built.fp16):
        noisy = built.engines.changed(engine, NoisyNetwork(seed=1))
        assert noisy.executed_path == engine.executed_path
        assert noisy.weight_bytes == engine.weight_bytes


def test_fresh_scenes_are_in_no_set_and_of_their_seed(built: Built) -> None:
    fresh, again, others = (unseen_library(built.prepared, 12, seed) for seed in (7, 7, 8))
    for one in (fresh, again, others):
        assert isinstance(one, ImageLibrary)
    images = [{scene.image.tobytes() for scene in one.scenes} for one in (fresh, again, others)]  # type: ignore[union-attr]
    assert images[0] == images[1]
    assert not images[0] & (images[2] | built.table.keys())
    assert sum(scene.is_wake for scene in fresh.scenes) == 6  # type: ignore[union-attr]


def test_an_open_network_is_the_one_that_was_filed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a search or a training would give here: neither is repeated."""
    from edgebench.audit.image_premises import filed_images, filed_network

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    every = sorted((root / "submissions/open").glob("*/*/wake/single-stream/*"))
    for path in every:
        bundle = read_bundle(path)
        prepared = filed_images(bundle, None, SilentProgress())
        network = filed_network(bundle)
        assert network is not None
        assert prepared.candidate_genome == network.genome
        arrays = network.arrays()
        assert prepared.kept_arrays.keys() == arrays.keys()
        model = bundle.ledger.open_network or bundle.ledger.open_subnet
        assert model is not None
        assert arrays.keys() == model.kept.keys()
        file = network.directory / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-2])  # torn: written anew
        again = filed_network(bundle)
        assert again is not None
        assert all(np.array_equal(array, arrays[name]) for name, array in again.arrays().items())
    assert len(every) >= 4


def test_tensors_that_are_not_the_ledgers_are_refused(root: Path) -> None:
    from edgebench.audit.image_premises import filed_images

    bundle = submitted(root, "closed")
    ledger = bundle.ledger
    name = min(ledger.convolutions)
    forged = (
        ledger.model_copy(update={"convolutions": {**ledger.convolutions, name: "0" * 64}}),
        ledger.model_copy(update={"tensors": {**ledger.tensors, min(ledger.tensors): "0" * 64}}),
    )
    for one in forged:
        with pytest.raises(RuleViolation, match="to give the ledger's tensors, got others"):
            filed_images(replace(bundle, ledger=one), None, SilentProgress())
    with pytest.raises(BundleError, match="give the submitted ones with --tensors DIR"):
        filed_images(replace(bundle, tensors_path=None), None, SilentProgress())
    assert bundle.tensors_path is not None
    beside = filed_images(
        replace(bundle, tensors_path=None), bundle.tensors_path.parent, SilentProgress()
    )
    assert beside.quantized.tensors.keys() == ledger.tensors.keys()
