"""What auditees of our own engines share: the engine, and the same around noise, built once."""

from __future__ import annotations

from edgebench.kernel_engine import KernelEngine, WeightChange, WorkloadEngines


class BuiltAuditee:
    """One kernel of a workload, built as a run builds it, and its noise; see Auditee."""

    def __init__(self, engines: WorkloadEngines, engine: KernelEngine, noise: WeightChange) -> None:
        self.name = f"{engine.kernel} ({engine.executed_path})"
        self._engines = engines
        self._engine = engine
        self._noise = noise
        self._changed: KernelEngine | None = None

    def _noisy(self) -> KernelEngine:
        """The same engine around a changed model; built when it is first asked for."""
        if self._changed is None:
            self._changed = self._engines.changed(self._engine, self._noise)
        return self._changed
