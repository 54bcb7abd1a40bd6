"""The kernels of a run for one workload: our own engines, and a server where one is measured."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from edgebench.job import AnyEngine
from edgebench.kernel_engine import WorkloadEngines
from edgebench.openai.discovery import Served
from edgebench.openai.engine import External, executed_path, open_external
from edgebench.prepared import PreparedWorkload
from edgebench.prepared_text import require_text
from edgebench.profiles import EXTERNAL
from edgebench.progress import Progress
from edgebench.record import Kernel, Scenario
from edgebench.roofline import Model
from edgebench.spec import ExternalRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """Who runs: see kernel_engine.WorkloadEngines."""

    own: WorkloadEngines
    external: External | None

    @property
    def model(self) -> Model:
        """What the reference multiplies."""
        return self.own.model

    @property
    def candidate_model(self) -> Model:
        """What the kernel beside it multiplies."""
        return self.own.candidate_model

    def for_scenario(self, kernel: Kernel, scenario: Scenario) -> AnyEngine:
        """Return a kernel as it runs in a scenario."""
        if kernel == EXTERNAL and self.external is not None:
            return self.external.for_scenario(scenario)
        return self.own.for_scenario(kernel, scenario)


def ask_server(
    request: ExternalRequest | None,
    served: Served | None,
    prepared: PreparedWorkload,
    progress: Progress,
    at_end: ExitStack,
) -> External | None:
    """Open the door for a workload's prompts; None where no server is measured. Closed at the end.

    Raises RunFailed where the server does not take them.
    """
    if served is None or request is None:
        return None
    with progress.stage(f"{prepared.workload.name}: asking {request.address.shown}") as update:
        external = open_external(served, require_text(prepared, "openai"), request.concurrency)
        update(1, 1)
    at_end.callback(external.close)
    progress.note(f"external engine: {executed_path(external.described())}")
    return external
