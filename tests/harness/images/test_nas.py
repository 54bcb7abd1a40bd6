"""A whole `nas` step on the tiny `wake`: search, table, cache, ledger, what the checker sees."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from edgebench.bundle import Bundle
from edgebench.checker import KnownWorkload
from edgebench.checker.known import known_workload
from edgebench.checker.open_track import check_filed
from edgebench.checker.subject import Subject
from edgebench.checker.subnet import check_subnet
from edgebench.errors import SpecError
from edgebench.findings import Finding
from edgebench.images.choices import choices_after, reference_choices
from edgebench.images.engines import CpuImageEngines
from edgebench.images.prepared import PreparedImages
from edgebench.images.request import image_search
from edgebench.open_subnet import describe_subnet
from edgebench.record import Ledger
from edgebench.transform import nas_accuracy, nas_found, nas_measure, parse_transform
from edgebench.transform.nas_accuracy import Evaluator
from edgebench.transform.nas_measure import measure_subnets, measure_table
from edgebench.transform.nas_table import key_of, predicted_ns
from edgebench.transform.quantized import tensors_bytes
from edgebench_workloads.cache import CACHE_VARIABLE
from edgebench_workloads.catalog import Workload
from edgebench_workloads.wake import dataset, extract, train
from edgebench_workloads.wake.costs import peak_activations, total_macs
from edgebench_workloads.wake.export import cut_reference, read_supernet
from edgebench_workloads.wake.genome import (
    EXPANSIONS,
    KERNELS,
    LARGEST,
    RESOLUTIONS,
    SMALLEST,
    Genome,
    make_genome,
)
from tests.harness.images.tiny_wake import made

pytestmark = [pytest.mark.torch, pytest.mark.native]

ROOT = Path(__file__).parents[3]
STEP = "nas:macs=4m,samples=20,generations=2"
OTHER = make_genome(min, resolutions=[80], kernels=[5], expansions=[4])


@pytest.fixture(scope="module")
def quick(tiny_wake: Workload, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Few scenes, one calibration batch, a short table, a cache of its own."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(cache))
        for module in (train, dataset, extract):
            patch.setattr(module, "CALIBRATION_BATCHES", 2)
            patch.setattr(module, "CALIBRATION_BATCH", 4)
        train.calibration_images.cache_clear()
        patch.setattr(nas_measure, "WINNER_PASSES", 4)
        patch.setattr(nas_found, "FINALISTS", 2)
        patch.setattr(nas_measure, "ROUNDS", 1)
        patch.setattr(nas_measure, "RACE_ROUNDS", 2)
        patch.setattr(nas_measure, "FITTED", 6)
        patch.setattr(nas_measure, "HELD_OUT", 3)
        patch.setattr(nas_accuracy, "SCENES", 40)
        patch.setattr(nas_accuracy, "ROUGH_SCENES", 20)
        yield cache
    train.calibration_images.cache_clear()


@pytest.fixture(scope="module")
def searched(quick: Path) -> PreparedImages:
    return made(STEP)


@pytest.fixture(scope="module")
def rounded(quick: Path) -> PreparedImages:
    return made(f"{STEP}+rtn")


def test_the_ledger_says_what_was_found(searched: PreparedImages) -> None:
    subnet = searched.ledger.open_subnet
    assert subnet is not None
    assert searched.found is not None
    genome, search = searched.candidate_genome, subnet.search
    assert genome != searched.genome or genome == SMALLEST
    assert total_macs(genome) <= 4_000_000
    assert subnet.dense_macs_per_image == total_macs(genome)
    assert subnet.peak_activation_bytes == peak_activations(genome)
    assert subnet.bits_per_weight == 16
    assert search.predicted_latency_ns == predicted_ns(search.table, genome)
    assert search.measured_latency_ns > 0
    error = search.predicted_latency_ns / search.measured_latency_ns - 1
    assert search.latency_error == pytest.approx(error)
    assert search.tried
    chosen = next(t for t in search.tried if t.measured_latency_ns == search.measured_latency_ns)
    assert chosen.evaluated_top1 == max(one.evaluated_top1 for one in search.tried)
    assert search.table.held_out_worst_error is not None
    assert search.split == "validation scenes 0 to 39"
    assert len(search.table.block_ns) == 3 * 12 * 9
    assert all(took > 0 for took in search.table.block_ns.values())
    assert searched.not_closed[0].startswith("W-07: nas:")
    assert searched.not_closed[1].startswith("W-03: a subnet of the supernet")


def test_the_subnet_runs_beside_the_reference(searched: PreparedImages) -> None:
    engines = CpuImageEngines(searched, ("fp16", "open"))
    assert engines.candidate_model.operations_per_token == 2 * total_macs(searched.candidate_genome)
    both = [engines.for_scenario(kernel, "single-stream") for kernel in ("fp16", "open")]  # type: ignore[arg-type]
    genomes: list[Any] = [one.engine.genome for one in both]
    assert genomes == [searched.genome, searched.candidate_genome]
    assert both[1].cost == searched.cost("open")
    assert both[1].arithmetic in ("fp32", "bf16")


def test_found_once_is_not_searched_again(
    searched: PreparedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> float:
        raise AssertionError("a kept subnet needs no evaluation")

    monkeypatch.setattr(Evaluator, "rough", fail)
    again = made(STEP)
    assert again.ledger == searched.ledger


@pytest.mark.parametrize("where", ["evaluations", "generations", "finalists"])
def test_an_interrupted_search_goes_on(
    searched: PreparedImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """Cut short in each stage; the table that was measured first stays, so all else is equal."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    table = searched.ledger.open_subnet.search.table  # type: ignore[union-attr]
    tables = []

    def given(*_: object) -> object:
        tables.append(1)
        return table

    monkeypatch.setattr(nas_measure, "measure_table", given)
    with monkeypatch.context() as patch:
        count = [0]

        def broken(inner: Any, after: int) -> Any:
            def call(*args: Any, **more: Any) -> Any:
                count[0] += 1
                if count[0] > after:
                    raise KeyboardInterrupt
                return inner(*args, **more)

            return call

        if where == "evaluations":
            patch.setattr(Evaluator, "rough", broken(Evaluator.rough, 7))
        elif where == "finalists":
            patch.setattr(Evaluator, "exact", broken(Evaluator.exact, 1))
        else:
            from edgebench.transform import nas_search

            patch.setattr(nas_search, "_next", broken(nas_search._next, 1))
        with pytest.raises(KeyboardInterrupt):
            made(STEP)
    rough = []
    whole = Evaluator.rough
    monkeypatch.setattr(Evaluator, "rough", lambda self, g: rough.append(g) or whole(self, g))
    again = made(STEP)
    assert len(rough) == (20 - 7 if where == "evaluations" else 0)
    assert tables == [1]
    assert again.candidate_genome == searched.candidate_genome
    assert again.found is not None
    assert again.found.found.step == searched.found.found.step  # type: ignore[union-attr]
    assert not list(tmp_path.glob("nas/*.search"))


def test_a_latency_that_no_subnet_reaches_is_refused_before_evaluations(
    searched: PreparedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluator, "rough", lambda *_: pytest.fail("evaluated"))
    said = r"latency of at least \d+us, the smallest that a subnet reaches on this device, got 1us"
    with pytest.raises(SpecError, match=said):
        made("nas:latency=1us,samples=20")


def test_a_step_that_changes_the_reference_is_refused_beside_a_search() -> None:
    with pytest.raises(SpecError, match="expected nas alone or with rtn behind it, got"):
        image_search(parse_transform("nas:macs=4m+prune:magnitude=0.5"))


def test_a_chain_without_a_search_has_none() -> None:
    assert image_search(parse_transform("prune:magnitude=0.5")) is None


def test_awq_is_refused_before_the_search(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evaluator, "rough", lambda *_: pytest.fail("evaluated"))
    with pytest.raises(SpecError, match="expected rtn for a workload of images, got awq"):
        made(f"{STEP},seed=9+awq")


def test_the_table_adds_up_what_the_clock_says(quick: Path, searched: PreparedImages) -> None:
    """With a clock that ticks once a reading every part is one tick, and the rest another."""
    ticks = iter(range(10**9))
    images = {r: torch.zeros(2, 1, r, r) for r in RESOLUTIONS}
    table = measure_table(
        lambda g, w: reference_choices(g, w)[:1], images.__getitem__, lambda: next(ticks), 2
    )
    assert len(set(table.block_ns.values())) <= len(RESOLUTIONS)
    assert key_of(96, 2, 3, KERNELS[-1], EXPANSIONS[-1]) in table.block_ns
    assert table.passes == 2 * nas_measure.BURST
    assert (table.fitted, table.held_out) == (6, 3)


def test_parts_are_what_lies_between_the_marks(quick: Path) -> None:
    """Begin, 13 marks, end: 14 ticks, of which 12 are blocks; a network timed whole has one."""
    ticks = iter(range(10**9))
    images = {r: torch.zeros(2, 1, r, r) for r in RESOLUTIONS}
    engine = nas_measure._random(reference_choices, LARGEST)[0]
    marked, whole = nas_measure._parts(
        [engine, engine], images.__getitem__, lambda: next(ticks), 1, marked=1
    )
    assert marked == [1] * 12 + [2]
    assert whole == [1]


def test_a_load_of_others_moves_no_entry() -> None:
    quiet = [100 + place % 3 for place in range(50)]
    assert nas_measure.undisturbed([*quiet, *[5000] * 50]) in (100, 101)


def test_a_subnet_is_timed_in_the_engine_that_wins(searched: PreparedImages) -> None:
    weights = {n: torch.from_numpy(a).float() for n, a in searched.kept_arrays.items()}
    engines = choices_after(None)(searched.candidate_genome, weights)
    resolution = searched.candidate_genome.resolution
    (timed,) = measure_subnets([(engines, torch.zeros(2, 1, resolution, resolution))])
    assert timed.latency_ns > 0
    assert timed.path in {one.description for one in engines}


@pytest.mark.parametrize("genome", [SMALLEST, OTHER], ids=["smallest", "other"])
def test_numpy_cuts_what_torch_cuts(quick: Path, tiny_wake: Workload, genome: Genome) -> None:
    path = tiny_wake.folder / "model" / "supernet.safetensors"
    expected = cut_reference(read_supernet(path), genome)
    came = extract.extract(path, genome)
    assert came.keys() == expected.keys()
    for name, own in came.items():
        # Sums of some thousand products in f32, in another order, some 20 layers deep; a bias
        # shifts channels that are about 1 wide.
        largest = max(np.abs(own).max(), 1.0 if name.endswith("bias") else 0.0)
        assert np.abs(own - expected[name].numpy()).max() <= 1e-4 * largest, name


def test_the_sweep_sets_found_beside_uniform_subnets(
    quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_from_file_location("nas_sweep", ROOT / "docs" / "nas_sweep.py")
    assert spec is not None
    assert spec.loader is not None
    sweep = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "nas_sweep", sweep)
    spec.loader.exec_module(sweep)
    monkeypatch.setattr(sweep, "JUDGED", range(40, 50))
    monkeypatch.setattr(sweep, "RESOLUTIONS", (64,))
    monkeypatch.setattr(sweep, "EXPANSIONS", (3,))
    words = ["nas_sweep", "--out", str(tmp_path), "--points", "2", "--samples", "20"]
    monkeypatch.setattr(sys, "argv", [*words, "--threads", str(torch.get_num_threads())])
    assert sweep.main() == 0
    result = json.loads((tmp_path / "sweep.json").read_text())
    kinds = [point["kind"] for point in result["points"]]
    assert kinds.count("uniform") == 3
    assert kinds.count("nas") in (1, 2)
    assert all(point["latency_ns"] > 0 for point in result["points"])
    counts = result["baselines"]
    assert counts["uniform"]["of"] == 3
    assert 0 <= counts["uniform"]["beaten"] <= 3
    assert (tmp_path / "sweep.svg").read_text().startswith("<svg")
    found = sweep.Point(kind="nas", genome=SMALLEST, predicted_ns=1, latency_ns=5, top1=0.9)
    slower, better = (
        replace(found, kind="uniform", latency_ns=latency, top1=top1)
        for latency, top1 in ((6, 0.9), (6, 0.91))
    )
    assert sweep.beaten([found, slower, better], "uniform") == 1
    assert sweep.beaten([found, slower, better], "width") == 0
    assert sweep.limits(1000, 4200, 2) == [1050, 2100]


# ------------------------------------------------------------------------------------ the checker


def subject(prepared: PreparedImages, folder: Path, **changes: Any) -> Subject:
    """A bundle as far as O-07 looks at it."""
    ledger = prepared.ledger
    arrays: dict[str, NDArray[Any]] = dict(changes.pop("arrays", prepared.kept_arrays))
    save_file(arrays, folder / "open.safetensors")
    tensors = None
    if ledger.tensors:
        tensors = folder / "int4.safetensors"
        tensors.write_bytes(tensors_bytes(changes.pop("tensors", prepared.quantized.tensors)))
    data = ledger.model_dump()
    for path, value in changes.items():
        at: Any = data
        *parents, last = path.split("__")
        for name in parents:
            at = at[int(name) if name.isdecimal() else name]
        at[last] = value
    bundle = SimpleNamespace(
        ledger=Ledger.model_validate(data),
        open_path=folder / "open.safetensors",
        tensors_path=tensors,
    )
    known: KnownWorkload = known_workload("wake")
    return Subject(bundle=bundle, workload=known)  # type: ignore[arg-type]


def findings(prepared: PreparedImages, folder: Path, **changes: Any) -> list[Finding]:
    looked = subject(prepared, folder, **changes)
    return [*check_filed(looked), *check_subnet(looked)]


def test_an_honest_subnet_passes(
    searched: PreparedImages, rounded: PreparedImages, tmp_path: Path
) -> None:
    assert findings(searched, tmp_path) == []
    assert findings(rounded, tmp_path) == []
    assert rounded.ledger.open_subnet is not None
    assert rounded.ledger.open_subnet.bits_per_weight < 16
    looked = subject(rounded, tmp_path)
    assert looked.open_genome == rounded.candidate_genome
    assert looked.candidate_shapes.keys() == rounded.quantized.tensors.keys()
    assert looked.candidate_work.operations_per_token == 2 * rounded.cost("int4").macs


@pytest.mark.parametrize("planted", ["stages.1.0.depthwise.weight", "head.bias"])
def test_a_planted_change_is_found(searched: PreparedImages, tmp_path: Path, planted: str) -> None:
    """One weight, trained a little: the ledger is the change's own, so only the cut can tell."""
    subnet = searched.ledger.open_subnet
    assert subnet is not None
    arrays = {name: array.copy() for name, array in searched.kept_arrays.items()}
    flat = arrays[planted].reshape(-1)
    flat[0] += np.float16(0.01 * max(np.abs(flat).max(), planted.endswith("bias")))
    found = findings(
        searched,
        tmp_path,
        arrays=arrays,
        open_subnet=describe_subnet(
            searched.candidate_genome,
            {},
            arrays,
            supernet_sha256=subnet.supernet_sha256,
            search=subnet.search,
        ).model_dump(),
    )
    assert any(f"{planted} as the supernet gives it" in one.expected for one in found)


def test_another_code_than_rtns_is_found(rounded: PreparedImages, tmp_path: Path) -> None:
    tensors = dict(rounded.quantized.tensors)
    changed = tensors["head"].qweight.copy()
    changed[0, 0] ^= 1
    tensors["head"] = replace(tensors["head"], qweight=changed)
    (found, *_) = findings(rounded, tmp_path, tensors=tensors)
    assert "head as rtn rounds it" in found.expected


CASES = [
    ("O-07", {"open_subnet__search__tried__0__predicted_latency_ns": 1}, "every finalist"),
    ("O-07", {"open_subnet__supernet_sha256": "0" * 64}, "the supernet"),
    ("O-07", {"open_subnet__genome__resolution": 65}, "a subnet that can be read"),
    ("O-07", {"graph_sha256": "0" * 64}, "the graph"),
    ("O-07", {"open_subnet__dense_macs_per_image": 1}, "dense_macs_per_image"),
    ("O-07", {"open_subnet__peak_activation_bytes": 1}, "peak_activation_bytes"),
    ("O-07", {"open_subnet__search__seed": 5}, "the search that the step asks for"),
    ("O-07", {"open_subnet__search__predicted_latency_ns": 1}, "the table's sum"),
    ("O-07", {"open_subnet__search__latency_error": 0.001234}, "latency_error"),
    ("O-07", {"open_subnet__search__table__block_ns": {}}, "a latency table of every choice"),
    ("O-07", {"open_subnet": None}, "an open_subnet in the ledger"),
]


@pytest.mark.parametrize(("rule", "changes", "said"), CASES, ids=[case[2] for case in CASES])
def test_an_edited_ledger_is_found(
    searched: PreparedImages, tmp_path: Path, rule: str, changes: dict[str, Any], said: str
) -> None:
    found = findings(searched, tmp_path, **changes)
    assert {one.rule_id for one in found} == {rule}
    assert any(said in one.expected for one in found), found


def test_a_limit_that_is_not_kept_is_found(searched: PreparedImages, tmp_path: Path) -> None:
    found = findings(
        searched,
        tmp_path,
        steps__0__parameters={"macs": "2700k", "samples": 20, "generations": 2, "seed": 0},
        open_subnet__search__limit=2_700_000,
    )
    if total_macs(searched.candidate_genome) > 2_700_000:
        assert any("macs of at most 2700000" in one.expected for one in found)
    else:
        assert found == []


def test_the_bundle_type_is_what_the_checker_reads() -> None:
    assert {"ledger", "open_path", "tensors_path"} <= set(Bundle.__dataclass_fields__)
