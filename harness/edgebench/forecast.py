"""The forecast of one scenario: what it will take, whether it fits, what confidence it buys."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgebench.confidence import expected_interval, percentile_words
from edgebench.estimate import ScenarioEstimate, estimate_scenario
from edgebench.job import AnyEngine
from edgebench.lineup import Lineup
from edgebench.pilot import Pilot, run_pilot
from edgebench.prepared import PreparedWorkload
from edgebench.profiles import PROFILES, Counts
from edgebench.record import Kernel, Profile, Scenario
from edgebench.spec import RunSpec
from edgebench.units import format_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One scenario of one workload before it is measured."""

    workload: str
    scenario: Scenario
    counts: Counts
    pilot: Pilot
    estimate: ScenarioEstimate

    def shortage(self, spent_s: float, budget_s: float | None) -> str | None:
        """Say why it does not fit into what is left, and which budget would do, else None."""
        needed_s = spent_s + self.estimate.total_s
        if budget_s is None or needed_s <= budget_s:
            return None
        return (
            f"it would take {format_duration(self.estimate.total_s)} and "
            f"{format_duration(budget_s - spent_s)} of the budget are left; "
            f"--budget {math.ceil(needed_s / 60)}m would do"
        )

    @property
    def confidence(self) -> str:
        """What the queries or rounds buy, in words."""
        pairs = self.estimate.pairs
        interval = expected_interval(self.pilot.ratios, pairs)
        if interval is None:
            ratio = "no interval of the speedup expected from so short a pilot"
        else:
            ratio = f"speedup within about {interval[0]:.2f}x to {interval[1]:.2f}x (95 %)"
        if self.scenario == "single-stream":
            queries = min(self.estimate.queries.values())
            each = self.estimate.in_block
            wide = f", wider than it will be: a block has {each} queries" if each > 1 else ""
            said = f"{queries} queries: {percentile_words(queries)}; {pairs} pairs of blocks"
        else:
            wide = ", wider than it will be: pilot rounds are short"
            said = f"{pairs} pairs of rounds"
        return f"{said}: {ratio}{wide if interval else ''}"

    @property
    def summary(self) -> str:
        """One line for people."""
        took = format_duration(self.pilot.took_s)
        return (
            f"plan: {self.workload} {self.scenario}: "
            f"{format_duration(self.estimate.total_s)}; {self.confidence} "
            f"(from {self.pilot.probed}, {took})"
        )


def forecast(
    workload: str,
    scenario: Scenario,
    profile: Profile,
    population: int,
    pilot: Pilot,
    *,
    is_metered: bool = False,
) -> Forecast:
    """Plan a scenario from its pilot; population is the scored set's size."""
    counts = PROFILES[profile].counts(workload, scenario)
    return Forecast(
        workload=workload,
        scenario=scenario,
        counts=counts,
        pilot=pilot,
        estimate=estimate_scenario(
            scenario, counts, population, pilot.per_sample_ns, is_metered=is_metered
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedScenario:
    """A scenario that could be measured now: its kernels as they would run, and its forecast."""

    kernels: Mapping[Kernel, AnyEngine]
    forecast: Forecast


def plan_scenarios(
    spec: RunSpec,
    prepared: PreparedWorkload,
    lineup: Lineup,
    scenarios: Sequence[Scenario],
    *,
    is_metered: bool,
) -> Iterator[PlannedScenario]:
    """Choose the kernels of each scenario and pilot them; raises RunFailed."""
    name, population = prepared.workload.name, prepared.scored_count
    for scenario in scenarios:
        kernels = {kernel: lineup.for_scenario(kernel, scenario) for kernel in spec.kernels}
        pilot = run_pilot(prepared, kernels, scenario)
        planned = forecast(name, scenario, spec.profile, population, pilot, is_metered=is_metered)
        yield PlannedScenario(kernels=kernels, forecast=planned)
