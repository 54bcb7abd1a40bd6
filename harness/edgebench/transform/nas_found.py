"""From a `nas` step to the subnet that it finds, kept by its recipe; an interrupted search goes on.

    CACHE/nas/SHARED/   table-ENGINE.json  evaluations.json   for every limit alike
    CACHE/nas/RECIPE/   generation.json while it searches     model/  search.json once it is done

SHARED hashes the supernet, the code, the libraries, the machine and its threads; whoever wants a
new latency table removes the folder. Files are written whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from pydantic import Field
from safetensors import safe_open

from edgebench.codec import canonical_json, encode_model, parse_model, sha256_bytes, write_atomic
from edgebench.errors import BundleError
from edgebench.machine import find_root
from edgebench.open_model import Fp16
from edgebench.open_subnet import genome_of, genome_row
from edgebench.record import StrictModel, TransformStep
from edgebench.strict import Count, Fraction, Text
from edgebench.subnet_record import GenomeRow, LatencyTable, Search
from edgebench.system import system_name
from edgebench.transform.changed import arrays_sha256
from edgebench.transform.kept import code_sha256, made_once
from edgebench.transform.nas import NAME, NasRequest, check_reachable
from edgebench.transform.nas_finalists import Judge, winner_within
from edgebench.transform.nas_predictor import NAME as PREDICTOR
from edgebench.transform.nas_predictor import Predictor, fit
from edgebench.transform.nas_search import POPULATION, Generation, Problem, Space, evolve
from edgebench.transform.nas_table import cheapest, predicted_ns
from edgebench_workloads.cache import cache_root
from edgebench_workloads.draws import Draws
from edgebench_workloads.wake.costs import peak_activations, total_macs
from edgebench_workloads.wake.genome import SMALLEST, Genome

if TYPE_CHECKING:
    from edgebench.transform.nas_accuracy import Evaluator
    from edgebench.transform.nas_measure import Choices

Model = TypeVar("Model", bound=StrictModel)

FOLDER, MODEL, SEARCH = "nas", "model", "search.json"
TABLE, EVALUATIONS, GENERATION = "table", "evaluations.json", "generation.json"
FINALISTS = 8
MAX_BYTES = 1 << 24

Progress = Callable[[int, int], None]


class Evaluated(StrictModel):
    """One subnet and its top-1."""

    genome: GenomeRow
    top1: Fraction


class Evaluations(StrictModel):
    """`evaluations.json`: what was evaluated directly, in the order of the draws."""

    rows: list[Evaluated]


class Kept(StrictModel):
    """`generation.json`: a population between two generations."""

    number: Count
    population: list[GenomeRow] = Field(max_length=POPULATION + 25)
    predictor: Text


class Found(StrictModel):
    """`search.json`: the search and the ledger's step."""

    search: Search
    step: TransformStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a search stands on."""

    reference_sha256: str
    supernet_sha256: str
    evaluator: Evaluator
    choices: Choices
    """The engines that a subnet may run in."""
    engine: str
    """What those are, for the recipe: the quantizer's chain, or none."""
    machine: str
    """Name, threads and instruction set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSubnet:
    """A subnet on disk, and how it was found."""

    directory: Path
    found: Found

    @property
    def steps(self) -> tuple[TransformStep, ...]:
        """The ledger's."""
        return (self.found.step,)

    @property
    def sha256(self) -> str:
        """The subnet by content."""
        return self.found.step.after_sha256

    def arrays(self) -> dict[str, Fp16]:
        """Every tensor, fp16."""
        return read_arrays(self.directory)


def read_arrays(directory: Path) -> dict[str, Fp16]:
    """Every tensor of a subnet on disk."""
    with safe_open(directory / "model.safetensors", framework="numpy") as file:
        return {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118


def machine_name() -> str:
    """This machine as a search depends on it."""
    import torch

    from edgebench_kernels import native

    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    threads = torch.get_num_threads()
    return f"{system_name(find_root())}, {threads} threads on {cpus} CPUs, {native.isa()}"


def found_once(
    request: NasRequest, ground: Ground, progress: Progress | None = None
) -> FoundSubnet:
    """The subnet that a search finds, taken from the cache where it is there whole.

    Raises SpecError for a latency that no subnet reaches here, AssetError without room.
    """
    shared = cache_root() / FOLDER / _shared_sha256(ground)
    directory = cache_root() / FOLDER / _recipe_sha256(request, ground)
    begun = directory.with_name(f"{directory.name}.search")

    def write(folder: Path) -> None:
        _Search(request, ground, shared, begun, progress or (lambda *_: None)).write(folder)

    return made_once(directory, begun, _read, write, "[nas] expected the subnet just found")


def _shared_sha256(ground: Ground) -> str:
    return sha256_bytes(canonical_json(_common(ground)))


def _common(ground: Ground) -> dict[str, str]:
    return {
        "supernet": ground.supernet_sha256,
        "split": ground.evaluator.sha256,
        "code": code_sha256(),
        "torch": version("torch"),
        "machine": ground.machine,
    }


def _recipe_sha256(request: NasRequest, ground: Ground) -> str:
    own = {"reference": ground.reference_sha256, "engine": ground.engine}
    return sha256_bytes(canonical_json({**_common(ground), **own, **request.parameters}))


def _read(directory: Path) -> FoundSubnet | None:
    """Read a kept subnet; None where it is not there, or not what its step says."""
    try:
        data = (directory / SEARCH).read_bytes()
        found = Found.model_validate_json(data)
        subnet = FoundSubnet(directory=directory / MODEL, found=found)
        is_whole = found.step.after_sha256 == arrays_sha256(subnet.arrays())
    except (OSError, ValueError):
        return None
    return subnet if is_whole else None


class _Search:
    """One search, its steps and its checkpoints."""

    def __init__(
        self, request: NasRequest, ground: Ground, shared: Path, begun: Path, progress: Progress
    ) -> None:
        self._request, self._ground = request, ground
        self._shared, self._begun = shared, begun
        self._progress = progress
        self._total = 1 + request.samples + request.generations + FINALISTS + 1
        self._done = 0

    def write(self, folder: Path) -> None:
        """Search, and write the winner into a folder."""
        from edgebench.transform.nas_measure import WINNER_PASSES
        from edgebench_workloads.wake import subnet

        evaluator = self._ground.evaluator
        table = self._table()
        problem, predictor = self._problem(table)
        judge = Judge(
            evaluator=evaluator, choices=self._ground.choices, table=table, tell=self._tell
        )
        winner, tried = winner_within(
            self._request,
            problem,
            lambda within: self._evolved(within, predictor)[:FINALISTS],
            judge,
        )
        subnet.write(folder / MODEL, winner.genome, winner.weights)
        self._tell()
        predicted, measured = winner.tried.predicted_latency_ns, winner.tried.measured_latency_ns
        search = Search(
            constraint=self._request.constraint,
            limit=self._request.limit,
            seed=self._request.seed,
            split=evaluator.split,
            split_sha256=evaluator.sha256,
            predictor=PREDICTOR,
            predictor_error=predictor.error,
            evaluations=self._request.samples,
            generations=self._request.generations,
            population=POPULATION,
            finalists=len(tried),
            predicted_top1=predictor([winner.genome])[0],
            evaluated_top1=winner.tried.evaluated_top1,
            table=table,
            predicted_latency_ns=predicted,
            measured_latency_ns=measured,
            measured_passes=WINNER_PASSES,
            measured_path=winner.path,
            latency_error=predicted / measured - 1,
            tried=tried,
        )
        step = TransformStep(
            transform=NAME,
            parameters=self._request.parameters,
            before_sha256=self._ground.reference_sha256,
            after_sha256=arrays_sha256(read_arrays(folder / MODEL)),
        )
        write_atomic(folder / SEARCH, encode_model(Found(search=search, step=step)))

    def _tell(self, count: int = 1) -> None:
        self._done += count
        self._total = max(self._total, self._done)  # a search below the limit comes on top
        self._progress(self._done, self._total)

    def _table(self) -> LatencyTable:
        from edgebench.transform.nas_measure import measure_table

        name = sha256_bytes(self._ground.engine.encode())[:16]
        path = self._shared / f"{TABLE}-{name}.json"
        table = _parsed(LatencyTable, path)
        if table is None:
            evaluator = self._ground.evaluator
            table = measure_table(self._ground.choices, lambda r: evaluator.images(r)[:64])
            _kept(path, table)
        self._tell()
        return table

    def _problem(self, table: LatencyTable) -> tuple[Problem, Predictor]:
        """The limit is looked at before subnets are evaluated, which takes minutes."""
        space, request = Space(), self._request
        least, cost = SMALLEST, total_macs
        if request.constraint == "memory":
            cost = peak_activations
        if request.constraint == "latency":
            least = cheapest(table, resolutions=space.resolutions)

            def cost(genome: Genome) -> int:
                return predicted_ns(table, genome)

        check_reachable(request, cost(least))
        predictor = self._fitted(space)
        problem = Problem(
            space=space, score=predictor, cost=cost, limit=request.limit, cheapest=least
        )
        return problem, predictor

    def _fitted(self, space: Space) -> Predictor:
        """Evaluate subnets of the whole space directly; any limit reads the same ones."""
        path = self._shared / EVALUATIONS
        kept = _parsed(Evaluations, path)
        rows = [] if kept is None else list(kept.rows)
        draws = Draws(f"edgebench-nas/{self._request.seed}/samples")
        known = {genome_of(row.genome): row.top1 for row in rows}
        genomes = [space.draw(draws.choose) for _ in range(self._request.samples)]
        for genome in genomes:
            if genome not in known:
                known[genome] = self._ground.evaluator.rough(genome)
                rows.append(Evaluated(genome=genome_row(genome), top1=known[genome]))
                _kept(path, Evaluations(rows=rows))
            self._tell()
        return fit(genomes, [known[genome] for genome in genomes])

    def _evolved(self, problem: Problem, predictor: Predictor) -> list[Genome]:
        path = self._begun / GENERATION
        name = sha256_bytes(predictor.weights.tobytes() + str(problem.limit).encode())
        kept = _parsed(Kept, path)
        begun = None
        if kept is not None and kept.predictor == name:
            population = tuple(map(genome_of, kept.population))
            begun = Generation(number=kept.number, population=population)
            self._tell(min(kept.number, self._request.generations))

        def keep(now: Generation) -> None:
            rows = [genome_row(genome) for genome in now.population]
            _kept(path, Kept(number=now.number, population=rows, predictor=name))
            if begun is None or now.number > begun.number:
                self._tell(int(now.number > 0))

        return evolve(
            problem,
            seed=self._request.seed,
            generations=self._request.generations,
            begun=begun,
            keep=keep,
        )


def _parsed(model: type[Model], path: Path) -> Model | None:
    """What a file holds; None where it is not there, or torn."""
    try:
        return parse_model(model, path.read_bytes(), path.name)
    except (OSError, BundleError):
        return None


def _kept(path: Path, model: StrictModel) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, encode_model(model))
