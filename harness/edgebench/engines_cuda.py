"""The engines of one workload on a GPU: the fp16 reference and INT4, one copy of each weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgebench.engines_cpu import changed_reference, choose_path, longest_row
from edgebench.kernel_engine import (
    OFFLINE_BATCH,
    KernelEngine,
    WeightChange,
    changed_tensors,
)
from edgebench.prepared_text import PreparedText
from edgebench.record import Kernel, Scenario
from edgebench.roofline import Arithmetic, Model, model_of

if TYPE_CHECKING:
    from edgebench_kernels.cuda.launcher import Launcher
    from edgebench_kernels.engine import DecodeEngine

ARITHMETIC: dict[str, Arithmetic] = {"w4a16": "fp16", "w4a8": "int8"}
"""What the tensor cores multiply on each path."""


class CudaEngines:
    """Builds each engine once; they share the embedding, the norms and the packed weights."""

    def __init__(
        self, launcher: Launcher, prepared: PreparedText, kernels: Sequence[Kernel]
    ) -> None:
        from edgebench_kernels.cuda.engine_build import (
            build_fp16_on,
            build_int4_on,
            pack_int4_on,
            resident,
        )
        from edgebench_kernels.cuda.engine_state import Room
        from edgebench_kernels.engine import PathChoice, linear_shapes, load_reference, with_norms

        self._prepared, self._launcher = prepared, launcher
        weights = resident(load_reference(prepared.directory), launcher)
        self.model: Model = model_of(linear_shapes(weights.config))
        candidate = weights
        if prepared.changed is not None:
            candidate = resident(load_reference(prepared.candidate_directory), launcher)
        self.candidate_model: Model = model_of(linear_shapes(candidate.config))
        room = Room(max_batch=OFFLINE_BATCH, max_length=longest_row(prepared))
        self._fp16 = build_fp16_on(launcher, weights, room)
        self._open = build_fp16_on(launcher, candidate, room) if "open" in kernels else self._fp16
        self._int4: dict[str, DecodeEngine] = {}
        if "int4" in kernels:
            packed = pack_int4_on(launcher, candidate, prepared.quantized.tensors)
            weights = with_norms(candidate, prepared.quantized.folded.norms)
            self._int4 = {
                path: build_int4_on(launcher, weights, packed, PathChoice.of(path), room)
                for path in ("w4a16", "w4a8")
            }

    def for_scenario(
        self, kernel: Kernel, scenario: Scenario, named: str | None = None
    ) -> KernelEngine:
        """Return a kernel as it runs in a scenario; offline INT4 takes the faster of its paths."""
        batch_size = 1 if scenario == "single-stream" else OFFLINE_BATCH
        engine: DecodeEngine = self._open if kernel == "open" else self._fp16
        arithmetic = ARITHMETIC["w4a16"]
        self._warm_up(self._int4.values() if kernel == "int4" else [engine], batch_size)
        if kernel == "int4":
            rivals = self._int4 if batch_size > 1 else {"w4a16": self._int4["w4a16"]}
            path = choose_path(named, rivals, self._prepared, batch_size)
            engine, arithmetic = self._int4[path], ARITHMETIC[path]
        return KernelEngine(
            kernel=kernel,
            engine=engine,
            executed_path=engine.describe(),
            batch_size=batch_size,
            arithmetic=arithmetic,
        )

    def _warm_up(self, engines: Iterable[DecodeEngine], batch_size: int) -> None:
        """Show every batch that a scenario may bring, so that no query pays for the first time."""
        lengths = sorted(len(prompt) for prompt in self._prepared.prompts)
        batches = [lengths[at : at + batch_size] for at in range(0, len(lengths), batch_size)]
        distinct = [list(batch) for batch in dict.fromkeys(map(tuple, batches))]
        for engine in engines:
            engine.warm_up(distinct)

    def changed(self, engine: KernelEngine, change: WeightChange) -> KernelEngine:
        """See WorkloadEngines."""
        from edgebench_kernels.cuda.engine_build import (
            build_fp16_on,
            build_int4_on,
            pack_int4_on,
            resident,
        )
        from edgebench_kernels.cuda.engine_state import Room
        from edgebench_kernels.engine import PathChoice, load_reference, with_norms

        launcher, quantized = self._launcher, self._prepared.quantized
        room = Room(max_batch=OFFLINE_BATCH, max_length=longest_row(self._prepared))
        prepared, is_reference = self._prepared, engine.kernel == "fp16"
        directory = prepared.directory if is_reference else prepared.candidate_directory
        weights = load_reference(directory)
        built: DecodeEngine
        if engine.kernel != "int4":
            changed = resident(changed_reference(weights, change), launcher)
            built = build_fp16_on(launcher, changed, room)
        else:
            weights = resident(weights, launcher)
            tensors = changed_tensors(quantized.tensors, change)
            packed = pack_int4_on(launcher, weights, tensors)
            weights = with_norms(weights, quantized.folded.norms)
            path: Any = next(p for p, one in self._int4.items() if one is engine.engine)
            built = build_int4_on(launcher, weights, packed, PathChoice.of(path), room)
        self._warm_up([built], engine.batch_size)
        return replace(engine, engine=built, packed=None)
