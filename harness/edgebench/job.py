"""A scenario job: everything that measuring one scenario needs, gathered before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgebench import meters
from edgebench.conditions import Watch
from edgebench.kernel_engine import KernelEngine
from edgebench.loadgen import SystemUnderTest
from edgebench.openai.engine import ExternalEngine
from edgebench.prepared import PreparedWorkload
from edgebench.profiles import Counts
from edgebench.record import Kernel
from edgebench.roofline import Model
from edgebench.system import SystemDescription
from edgebench.target import Target

AnyEngine = KernelEngine | ExternalEngine


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioJob:
    """Everything that measuring one scenario needs."""

    prepared: PreparedWorkload
    engines: Mapping[Kernel, AnyEngine]
    model: Model
    candidate_model: Model | None = None
    """Of an open model that is not the reference's; None: the same."""
    counts: Counts
    min_block_s: float
    target: Target
    selection: meters.MeterSelection
    transform: str
    threads: int
    watch: Watch
    """Reads the state of the machine while blocks run."""
    system: SystemDescription
    load_before: float | None
    """Load average when the command began, before it made a load of its own."""
    per_query_ns: Mapping[Kernel, int]
    """The pilot's fastest single-stream query, or offline sample: what blocks are sized by."""


def sut_of(prepared: PreparedWorkload, engine: AnyEngine) -> SystemUnderTest:
    """Put a kernel's engine behind the load generator; an external one stands there already."""
    return engine.sut if isinstance(engine, ExternalEngine) else prepared.sut(engine)
