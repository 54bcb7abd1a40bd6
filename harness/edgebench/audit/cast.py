"""The cast of an audit: who stands behind each kernel of a bundle, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgebench.audit.auditee import Auditee
from edgebench.audit.engine_auditee import EngineAuditee
from edgebench.audit.image_auditee import ImageAuditee
from edgebench.audit.server_auditee import ServerAuditee
from edgebench.prepared import PreparedWorkload
from edgebench.prepared_text import require_text
from edgebench.profiles import EXTERNAL
from edgebench.record import Kernel, Scenario

if TYPE_CHECKING:
    from edgebench.kernel_engine import WorkloadEngines
    from edgebench.openai.engine import External


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """One kernel as it is audited."""

    kernel: Kernel
    executed_path: str
    batch_size: int
    """Samples of a query: of a server, requests in flight."""
    auditee: Auditee = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Everything that a player is built from."""

    prepared: PreparedWorkload
    engines: WorkloadEngines
    external: External | None
    """The server of a bundle of an external engine."""
    scenario: Scenario
    paths: Mapping[Kernel, str]
    """What the bundle says that each kernel executed."""
    seed: int

    def player(self, kernel: Kernel) -> Player:
        """Return who plays a kernel, built as a run builds it."""
        if kernel == EXTERNAL and self.external is not None:
            engine = self.external.for_scenario(self.scenario)
            text = require_text(self.prepared, "audit")
            return Player(
                kernel=kernel,
                executed_path=engine.executed_path,
                batch_size=engine.batch_size,
                auditee=ServerAuditee(self.external, text, engine.batch_size),
            )
        own = self.engines.for_scenario(kernel, self.scenario, self.paths.get(kernel))
        auditee = EngineAuditee if self.prepared.workload.kind == "text" else ImageAuditee
        return Player(
            kernel=kernel,
            executed_path=own.executed_path,
            batch_size=own.batch_size,
            auditee=auditee(self.engines, own, self.seed),
        )
