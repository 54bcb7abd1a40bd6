"""The search for a subnet: what a step asks for, what the evolution finds, what predictions are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product

import pytest

from edgebench.errors import RuleViolation, SpecError
from edgebench.open_subnet import genome_row
from edgebench.record import OpenSubnet
from edgebench.spec import RunOptions, parse_run
from edgebench.subnet_record import LatencyTable, Tried
from edgebench.transform import parse_transform
from edgebench.transform.nas import NasRequest, check_reachable, read_nas, shown
from edgebench.transform.nas_finalists import Finalist, winner_within
from edgebench.transform.nas_fit import Timed, fitted, judged
from edgebench.transform.nas_predictor import fit
from edgebench.transform.nas_search import Generation, Problem, Space, evolve, nearer
from edgebench.transform.nas_table import cheapest, key_of, predicted_ns
from edgebench_workloads.draws import Draws
from edgebench_workloads.wake.costs import peak_activations, total_macs
from edgebench_workloads.wake.genome import (
    EXPANSIONS,
    KERNELS,
    LARGEST,
    MAX_DEPTH,
    RESOLUTIONS,
    SMALLEST,
    STAGES,
    Genome,
    make_genome,
)

SMALL = Space(resolutions=(64, 80), depths=(2,), kernels=(3, 5), expansions=(3,))
"""128 subnets: a resolution, and the kernels of six blocks."""


def all_of_small() -> Iterator[Genome]:
    for resolution, *kernels in product((64, 80), *[(3, 5)] * 6):
        left = iter(kernels)
        rows = tuple((next(left), next(left), 0, 0) for _ in range(STAGES))
        yield replace(SMALLEST, resolution=resolution, kernels=rows)


def worth(genome: Genome) -> float:
    """Uneven values, so that no two subnets are alike and no gene is best alone."""
    bits = [genome.resolution == 80, *(k == 5 for row in genome.kernels for k in row[:2])]
    pairs = sum(a != b for a, b in pairwise(bits))
    return pairs + sum(bit * (place + 1) / 100 for place, bit in enumerate(bits))


def problem(limit: int, space: Space = SMALL) -> Problem:
    return Problem(
        space=space,
        score=lambda genomes: [worth(genome) for genome in genomes],
        cost=total_macs,
        limit=limit,
        cheapest=SMALLEST,
    )


def test_the_optimum_of_a_small_space_is_found() -> None:
    every = list(all_of_small())
    assert len(set(every)) == 128
    costs = sorted(map(total_macs, every))
    for limit in (costs[0], costs[20], costs[64], costs[-1]):
        best = max((g for g in every if total_macs(g) <= limit), key=worth)
        found = evolve(problem(limit), seed=1, generations=20)
        assert found[0] == best
        assert all(total_macs(genome) <= limit for genome in found)


def test_going_on_is_the_search_that_was_not_interrupted() -> None:
    wide = problem(total_macs(LARGEST) // 4, Space())
    kept: list[Generation] = []
    whole = evolve(wide, seed=3, generations=6, keep=kept.append)
    assert [one.number for one in kept] == list(range(7))
    assert evolve(wide, seed=3, generations=6, begun=kept[2]) == whole
    assert evolve(wide, seed=3, generations=6) == whole
    assert evolve(wide, seed=4, generations=6) != whole


def test_a_limit_that_hardly_any_keeps_is_kept() -> None:
    found = evolve(problem(total_macs(SMALLEST), Space()), seed=0, generations=1)
    assert found == [SMALLEST]


def test_a_genome_comes_nearer_gene_by_gene() -> None:
    draws, now = Draws("test"), LARGEST
    for _ in range(40):
        if now == SMALLEST:
            break
        now = nearer(now, SMALLEST, draws)
    assert now == SMALLEST


@pytest.mark.parametrize(
    ("text", "constraint", "limit"),
    [
        ("latency=3ms", "latency", 3_000_000),
        ("latency=250us", "latency", 250_000),
        ("memory=64KiB", "memory", 65_536),
        ("macs=5M", "macs", 5_000_000),
        ("macs=4.5m", "macs", 4_500_000),
    ],
)
def test_a_step_says_what_it_asks_for(text: str, constraint: str, limit: int) -> None:
    chain = parse_transform(f"nas:{text} + rtn")
    request = read_nas(chain.steps[0].parameters)
    assert (request.constraint, request.limit) == (constraint, limit)
    assert parse_transform(str(chain)) == chain
    assert read_nas(request.parameters) == request


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nas", "expected one constraint .*got none"),
        ("nas:latency=3ms,macs=5m", "expected one constraint .*got latency and macs"),
        ("nas:latency=3", "expected latency as a number with us, ms, s behind it"),
        ("nas:memory=5m", "expected memory as a number"),
        ("nas:macs=5m,samples=3", "expected samples to be 20"),
        ("nas:macs=1m", r"expected macs of at least \d+k, the smallest that a subnet reaches, got"),
        ("nas:memory=1kib", r"expected memory of at least \d+b, the smallest"),
        ("nas:macs=5m,depth=2", "parameter of nas"),
        ("rtn + nas:macs=5m", "expected one transform"),
    ],
)
def test_what_cannot_be_done_is_said(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_transform(text)


@pytest.mark.parametrize("constraint", ["memory", "macs"])
def test_the_smallest_that_is_named_can_be_had(constraint: str) -> None:
    least = peak_activations(SMALLEST) if constraint == "memory" else total_macs(SMALLEST)
    text = shown(constraint, least)  # type: ignore[arg-type]
    assert read_nas({constraint: text}).limit >= least
    with pytest.raises(SpecError, match=f"of at least {text}"):
        check_reachable(
            NasRequest(constraint=constraint, limit=least - 1, text="x"),  # type: ignore[arg-type]
            least,
        )


def options(**typed: str) -> RunOptions:
    return RunOptions(**{"workload": "wake", "transform": "nas:macs=5m", **typed})  # type: ignore[arg-type]


def test_closed_refuses_before_any_work() -> None:
    with pytest.raises(RuleViolation, match=r"\[W-07\].*got nas") as caught:
        parse_run(options(track="closed"))
    assert caught.value.exit_code == 5


def test_text_has_no_supernet() -> None:
    with pytest.raises(SpecError, match="expected workloads of images, got assistant"):
        parse_run(options(track="open", workload="assistant"))
    assert parse_run(options(track="open")).kernels == ("fp16", "open")
    assert parse_run(options(track="open", transform="nas:macs=5m+rtn")).kernels[1] == "int4"


def table_of(base: int = 1000) -> LatencyTable:
    """A table in which every entry is another number, and smaller is not always faster."""
    blocks = {}
    for resolution in RESOLUTIONS:
        for stage, place in product(range(STAGES), range(MAX_DEPTH)):
            for kernel, expansion in product(KERNELS, EXPANSIONS):
                slow = 500 if (kernel, expansion) == (3, 3) and stage == 1 else 0
                key = key_of(resolution, stage, place, kernel, expansion)
                blocks[key] = base + resolution + 10 * stage + place + kernel * expansion + slow
    fixed = {str(resolution): 7 * resolution for resolution in RESOLUTIONS}
    return LatencyTable(fixed_ns=fixed, block_ns=blocks, executed_paths={}, passes=1)


def test_a_prediction_is_the_fixed_part_and_its_blocks() -> None:
    table = table_of()
    expected = 7 * 64 + sum(
        1000 + 64 + 10 * stage + place + 9 + (500 if stage == 1 else 0)
        for stage in range(STAGES)
        for place in range(2)
    )
    assert predicted_ns(table, SMALLEST) == expected


def test_the_cheapest_is_no_slower_than_any() -> None:
    table, draws = table_of(), Draws("any")
    least = cheapest(table, resolutions=RESOLUTIONS)
    assert least != SMALLEST  # whose blocks are slow in one stage
    for _ in range(200):
        assert predicted_ns(table, least) <= predicted_ns(table, make_genome(draws.choose))


def test_the_predictor_learns_what_is_linear_and_says_what_it_misses() -> None:
    draws = Draws("fit")

    def value(genome: Genome) -> float:
        return 0.8 + 0.02 * sum(genome.depths) + 0.05 * (genome.resolution == 96)

    seen = [make_genome(draws.choose) for _ in range(120)]
    fitted = fit(seen, [value(genome) for genome in seen])
    others = [make_genome(draws.choose) for _ in range(50)]
    worst = max(abs(a - value(g)) for a, g in zip(fitted(others), others, strict=True))
    assert worst < 0.01  # of a spread of 0.17
    assert fitted.error < 0.01
    noisy = fit(seen, [value(g) + 0.1 * draws.below(2) for g in seen])
    assert 0.03 < noisy.error < 0.08  # a coin of 0.1 has a deviation of 0.05


def test_the_ledger_refuses_what_it_has_no_words_for() -> None:
    with pytest.raises(ValueError, match="genome"):
        OpenSubnet.model_validate({"genome": {"resolution": -1}})


@pytest.mark.parametrize(
    "chain", ["nas:macs=5m+awq", "prune:magnitude=0.5+nas:macs=5m", "nas:macs=5m+nas:macs=4m"]
)
def test_nas_goes_with_rtn_alone(chain: str) -> None:
    with pytest.raises(SpecError, match="expected nas alone or with rtn behind it, got"):
        parse_run(options(track="open", transform=chain))


def test_a_fit_finds_the_factors_and_its_errors_on_what_it_has_not_seen() -> None:
    table, draws = table_of(), Draws("fit")
    true = table.model_copy(
        update={
            "fixed_ns": {r: round(1.2 * took) for r, took in table.fixed_ns.items()},
            "block_ns": {key: round(1.2 * took) for key, took in table.block_ns.items()},
        }
    )
    timed = [
        Timed(genome=genome, latency_ns=predicted_ns(true, genome))
        for genome in (make_genome(draws.choose) for _ in range(90))
    ]
    before, after = judged(table, timed[60:]), judged(fitted(table, timed[:60]), timed[60:])
    assert before.held_out_median_error == pytest.approx(1 - 1 / 1.2, rel=0.01)
    assert after.held_out == 30
    assert after.held_out_worst_error is not None
    assert after.held_out_worst_error < 0.02


def finalist(genome: Genome, measured_ns: int, top1: float, limit: int) -> Finalist:
    return Finalist(
        genome=genome,
        weights={},
        path="",
        tried=Tried(
            genome=genome_row(genome),
            searched_limit=limit,
            predicted_latency_ns=1,
            measured_latency_ns=measured_ns,
            evaluated_top1=top1,
        ),
    )


def latency_problem(limit: int, own: LatencyTable) -> Problem:
    return replace(
        problem(limit, Space()),
        cost=lambda genome: predicted_ns(own, genome),
        cheapest=cheapest(own, resolutions=RESOLUTIONS),
    )


@pytest.mark.parametrize("slowness", [0.9, 1.5])
def test_a_limit_holds_as_measured(slowness: float) -> None:
    """A table that is wrong by half: the search goes on below the limit until one keeps it."""
    table = table_of()
    limit = 2 * predicted_ns(table, cheapest(table, resolutions=RESOLUTIONS))
    request = NasRequest(constraint="latency", limit=limit, text="x")
    asked = []

    def found(within: Problem) -> list[Genome]:
        asked.append(within.limit)
        draws = Draws("found")
        drawn = (make_genome(draws.choose) for _ in range(2000))
        return [genome for genome in drawn if within.cost(genome) <= within.limit][-8:]

    def judge(genomes: list[Genome], own: int) -> list[Finalist]:
        return [
            finalist(g, round(slowness * predicted_ns(table, g)), predicted_ns(table, g) / 1e6, own)
            for g in genomes
        ]

    winner, tried = winner_within(request, latency_problem(limit, table), found, judge)  # type: ignore[arg-type]
    assert winner.tried.measured_latency_ns <= limit
    assert winner.tried in tried
    assert all(later < first for first, later in pairwise(asked))


def test_a_limit_that_none_keeps_as_measured_names_the_fastest() -> None:
    table = table_of()
    least = predicted_ns(table, cheapest(table, resolutions=RESOLUTIONS))
    request = NasRequest(constraint="latency", limit=2 * least, text="x")

    def judge(genomes: list[Genome], own: int) -> list[Finalist]:
        return [finalist(genome, 9_000_000, 0.5, own) for genome in genomes]

    with pytest.raises(SpecError, match="latency of at least 9000us, the smallest that a subnet"):
        winner_within(
            request,
            latency_problem(request.limit, table),
            lambda within: [within.cheapest],
            judge,  # type: ignore[arg-type]
        )
