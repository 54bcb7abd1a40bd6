"""The engines of one workload: the fp16 reference and INT4, packed once, for both scenarios."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgebench.prepare import PreparedWorkload
from edgebench.record import Kernel, Scenario
from edgebench.roofline import Arithmetic, Model, model_of

if TYPE_CHECKING:
    from edgebench_kernels.engine import Engine, LlamaWeights, RegimeChoice

OFFLINE_BATCH = 64  # ours: the batch at which the CPU kernels reach their peak (kernels/README.md)
PROBE_BATCHES = 2  # of which the faster counts: the first one warms up


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEngine:
    """One kernel as it runs in one scenario."""

    kernel: Kernel
    engine: Engine
    executed_path: str
    batch_size: int
    arithmetic: Arithmetic | None

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that a decode step of this scenario's batch reads."""
        return self.engine.weight_bytes_at(self.batch_size)


class WorkloadEngines:
    """Builds each engine once; the INT4 engines share one copy of the packed weights."""

    def __init__(self, prepared: PreparedWorkload, kernels: Sequence[Kernel]) -> None:
        from edgebench_kernels.engine import (
            build_fp16,
            build_int4,
            linear_shapes,
            load_reference,
            pack_int4,
            probe,
        )

        self._prepared = prepared
        weights: LlamaWeights = load_reference(prepared.directory)
        self.model: Model = model_of(linear_shapes(weights.config))
        self.regimes: RegimeChoice = probe(weights)
        room = {"max_batch": OFFLINE_BATCH, "max_length": _max_length(prepared)}
        self._fp16 = build_fp16(weights, self.regimes, **room)
        self._int4: dict[str, Engine] = {}
        if "int4" in kernels:
            packed = pack_int4(weights, prepared.quantized.tensors)
            for path in ("w4a16", "w4a8"):
                self._int4[path] = build_int4(weights, {}, path, packed=packed, **room)

    def for_scenario(self, kernel: Kernel, scenario: Scenario) -> KernelEngine:
        """Return a kernel as it runs in a scenario; offline INT4 takes the faster of its paths."""
        batch_size = 1 if scenario == "single-stream" else OFFLINE_BATCH
        if kernel == "fp16":
            return KernelEngine(
                kernel=kernel,
                engine=self._fp16,
                executed_path=self._fp16.describe(),
                batch_size=batch_size,
                arithmetic=_ceiling_of(self.regimes.for_rows(batch_size)),
            )
        from edgebench_kernels import native

        path = "w4a16" if scenario == "single-stream" else self._faster_offline_path()
        return KernelEngine(
            kernel=kernel,
            engine=self._int4[path],
            executed_path=f"{path}/{native.isa()}",
            batch_size=batch_size,
            arithmetic="int8",
        )

    def _faster_offline_path(self) -> str:
        return min(self._int4, key=lambda path: self._offline_batch_ns(self._int4[path]))

    def _offline_batch_ns(self, engine: Engine) -> int:
        prompts = [list(prompt) for prompt in self._prepared.prompts[:OFFLINE_BATCH]]
        times = []
        for _ in range(PROBE_BATCHES):
            begin = time.monotonic_ns()
            engine.generate_greedy(prompts, max_new_tokens=2, eos_id=self._prepared.eos_id)
            times.append(time.monotonic_ns() - begin)
        return min(times)


def _max_length(prepared: PreparedWorkload) -> int:
    longest = max(len(prompt) for prompt in prepared.prompts)
    answers = max(len(call) for call in prepared.calls)
    return longest + max(prepared.workload.task.max_new_tokens, answers)


def _ceiling_of(arithmetic: str) -> Arithmetic:
    """Name the ceiling of an arithmetic; CPUs without fp16 units multiply fp16 weights as fp32."""
    return "bf16" if arithmetic == "bf16" else "fp32"
