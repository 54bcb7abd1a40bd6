"""One kernel's run as the export sees it: its result, its rows, what its workload is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from edgebench.bundle import Bundle
from edgebench.checker import KnownWorkload
from edgebench.derive import scored_outputs
from edgebench.profiles import PROFILES, Counts
from edgebench.record import KernelResult, Record, SampleRow, Scenario
from edgebench.scenarios import performance_rows

NOTICE = (
    "This is not an MLPerf result. EdgeBench measured it on a workload that MLPerf does not have; "
    "the layout is MLPerf's so that its tools can read it. Result not verified by MLCommons "
    "Association. MLPerf is a trademark of MLCommons Association."
)
"""Stands in every exported text. Source: MLCommons' rules for unverified results and its name."""

UNKNOWN = "N/A"
SCENARIO_NAMES: Mapping[Scenario, str] = {
    "single-stream": "SingleStream",
    "offline": "Offline",
}


@dataclass(frozen=True, kw_only=True)
class KernelRun:
    """One kernel of a checked bundle."""

    bundle: Bundle
    workload: KnownWorkload
    result: KernelResult

    @property
    def record(self) -> Record:
        """What the bundle says of itself."""
        return self.bundle.record

    @property
    def scenario(self) -> str:
        """The scenario by LoadGen's name."""
        return SCENARIO_NAMES[self.record.scenario]

    @property
    def system_id(self) -> str:
        """The system's name: one for each kernel, because weights are a system's property there."""
        return f"{self.record.system}-{self.result.kernel}"

    @property
    def counts(self) -> Counts:
        """What the profile demands."""
        return PROFILES[self.record.profile].counts(self.workload.name, self.record.scenario)

    @property
    def is_streamed(self) -> bool:
        """Whether answers are tokens; of images each is one class."""
        return self.workload.kind == "text"

    @property
    def metric(self) -> str:
        """What accuracy is called."""
        return "exact_match" if self.is_streamed else "top1"

    @cached_property
    def performance(self) -> list[SampleRow]:
        """Performance rows in the order of their issue."""
        return performance_rows(self.bundle.samples, self.result.kernel)

    @cached_property
    def scored(self) -> dict[int, tuple[int, ...]]:
        """One output per scored sample."""
        return scored_outputs(self.bundle.samples, self.result.kernel)

    @cached_property
    def had_accuracy_run(self) -> bool:
        """Whether accuracy comes from a run of its own, not from the performance outputs."""
        kernel = self.result.kernel
        return any(r.mode == "accuracy" and r.kernel == kernel for r in self.bundle.samples)

    @property
    def samples_per_query(self) -> int:
        """1, or the samples of an offline round: each round is one query."""
        return len(self.performance) // self.result.queries
