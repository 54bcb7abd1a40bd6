"""The engines of a workload of text on CPUs: the fp16 reference and INT4, packed once for all."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from edgebench.kernel_engine import (
    OFFLINE_BATCH,
    KernelEngine,
    WeightChange,
    changed_tensors,
    known_path,
)
from edgebench.prepared_text import PreparedText
from edgebench.profiles import SPARSE_PATH
from edgebench.record import Kernel, Scenario
from edgebench.roofline import Arithmetic, Model, model_of

if TYPE_CHECKING:
    from edgebench_kernels.engine import DecodeEngine, LlamaWeights, RegimeChoice
    from edgebench_kernels.engine.arithmetic import Int4Path
    from edgebench_kernels.engine.linear_int4 import PackedLinear

PROBE_ROUNDS = 3  # of which a path's fastest counts: the first one warms up
PROBE_TOKENS = 4
INT4_PATHS: tuple[Int4Path, ...] = ("w4a16", "w4a8")


class CpuEngines:
    """Builds each engine once; the INT4 engines share one copy of the packed weights."""

    def __init__(self, prepared: PreparedText, kernels: Sequence[Kernel]) -> None:
        from edgebench_kernels.engine import (
            Engine,
            build_fp16,
            build_int4,
            fastest_ops,
            linear_shapes,
            load_reference,
            pack_24,
            pack_int4,
            probe,
            with_norms,
        )

        self._prepared = prepared
        weights: LlamaWeights = load_reference(prepared.directory)
        self._weights = weights
        self.model: Model = model_of(linear_shapes(weights.config))
        if prepared.changed is not None:
            weights = load_reference(prepared.candidate_directory)
        self._candidate = weights
        self.candidate_model: Model = model_of(linear_shapes(weights.config))
        self.regimes: RegimeChoice = probe(self._weights)
        length = longest_row(prepared)
        self._fp16 = build_fp16(
            self._weights, self.regimes, max_batch=OFFLINE_BATCH, max_length=length
        )
        if isinstance(self._fp16, Engine):
            fastest_ops(self._fp16)
        self._open: DecodeEngine | None = None
        if "open" in kernels:
            self._open = build_fp16(
                weights, self.regimes, max_batch=OFFLINE_BATCH, max_length=length
            )
            if isinstance(self._open, Engine):
                fastest_ops(self._open)
        self._int4: dict[str, DecodeEngine] = {}
        self._sparse: DecodeEngine | None = None
        self._packed: dict[str, dict[str, NDArray[np.uint8]]] = {}
        if "int4" in kernels:
            tensors = prepared.quantized.tensors
            packed = cast("dict[str, PackedLinear]", pack_int4(weights, tensors))
            self._packed = dict.fromkeys(INT4_PATHS, packed_bytes(packed))
            weights = with_norms(weights, prepared.quantized.folded.norms)
            for path in INT4_PATHS:
                self._int4[path] = build_int4(
                    weights, {}, path, packed=packed, max_batch=OFFLINE_BATCH, max_length=length
                )
            self._hold_sparse(weights, pack_24(weights, tensors, packed), length)

    def _hold_sparse(
        self, weights: LlamaWeights, sparse: Mapping[str, PackedLinear], length: int
    ) -> None:
        """Keep an engine over weights packed 2:4, where there are any."""
        from edgebench_kernels.engine import build_int4

        if sparse:
            self._packed[SPARSE_PATH] = packed_bytes(sparse)
            # As wide as the others: the likelihood is read in batches, of whichever was timed.
            self._sparse = build_int4(
                weights, {}, packed=sparse, max_batch=OFFLINE_BATCH, max_length=length
            )

    def for_scenario(
        self, kernel: Kernel, scenario: Scenario, named: str | None = None
    ) -> KernelEngine:
        """Return a kernel as it runs in a scenario.

        INT4 takes the faster of its paths: offline w4a16 or w4a8, single-stream w4a16 over dense
        weights or, where they are 2:4, over packed 2:4 ones.
        """
        batch_size = 1 if scenario == "single-stream" else OFFLINE_BATCH
        if kernel != "int4":
            engine = self._fp16 if self._open is None or kernel == "fp16" else self._open
            return KernelEngine(
                kernel=kernel,
                engine=engine,
                executed_path=engine.describe(),
                batch_size=batch_size,
                arithmetic=_ceiling_of(self.regimes.for_rows(batch_size)),
                warnings=_unsettled_warnings(self.regimes),
            )
        from edgebench_kernels import native

        rivals = dict(self._int4) if batch_size > 1 else {"w4a16": self._int4["w4a16"]}
        if batch_size == 1 and self._sparse is not None:
            rivals[SPARSE_PATH] = self._sparse
        path = choose_path(named, rivals, self._prepared, batch_size)
        return KernelEngine(
            kernel=kernel,
            engine=rivals[path],
            executed_path=f"{path}/{native.isa()}",
            batch_size=batch_size,
            arithmetic="int8",
            packed=self._packed[path],
        )

    def changed(self, engine: KernelEngine, change: WeightChange) -> KernelEngine:
        """See WorkloadEngines."""
        from edgebench_kernels.engine import Engine, build_fp16

        length = longest_row(self._prepared)
        if engine.kernel != "int4":
            ops = engine.engine.ops if isinstance(engine.engine, Engine) else None
            own = self._weights if engine.kernel == "fp16" else self._candidate
            weights = changed_reference(own, change)
            built = build_fp16(
                weights, self.regimes, ops=ops, max_batch=OFFLINE_BATCH, max_length=length
            )
        else:
            built = self._changed_int4(engine, change, length)
        return replace(engine, engine=built, packed=None)

    def _changed_int4(
        self, engine: KernelEngine, change: WeightChange, length: int
    ) -> DecodeEngine:
        """On the given engine's path: packed 2:4 too, as far as the changed codes still are."""
        from edgebench_kernels.engine import build_int4, pack_24, pack_int4, with_norms

        quantized = self._prepared.quantized
        weights = with_norms(self._candidate, quantized.folded.norms)
        tensors = changed_tensors(quantized.tensors, change)
        packed = cast("dict[str, PackedLinear]", pack_int4(weights, tensors))
        path: Any = "w4a16"
        if engine.engine is self._sparse:
            packed = pack_24(weights, tensors, packed) or packed
        else:
            path = next(path for path, one in self._int4.items() if one is engine.engine)
        return build_int4(
            weights, {}, path, packed=packed, max_batch=OFFLINE_BATCH, max_length=length
        )


def changed_reference(weights: LlamaWeights, change: WeightChange) -> LlamaWeights:
    """Return fp16 weights with some linears changed."""
    import torch

    tensors = dict(weights.tensors)
    for name, tensor in weights.linears().items():
        given = tensor.numpy()
        came = change(name.removesuffix(".weight"), given)
        if came is not given:
            tensors[name] = torch.from_numpy(came)
    return replace(weights, tensors=tensors)


def packed_bytes(linears: Mapping[str, object]) -> dict[str, NDArray[np.uint8]]:
    """The bytes of linears packed for CPUs, as the kernels read them: views, not copies."""
    from edgebench_kernels.linear import Int4Linear
    from edgebench_kernels.packing import PackedInt4

    return {
        name: linear.packed.packed_bytes()
        for name, linear in linears.items()
        if isinstance(linear, Int4Linear) and isinstance(linear.packed, PackedInt4)
    }


def choose_path(
    named: str | None, rivals: Mapping[str, DecodeEngine], prepared: PreparedText, batch_size: int
) -> str:
    """Return the path that is named, where it is one of the rivals; else the fastest of them."""
    path = known_path(named, rivals)
    if path is None:
        [path, *others] = rivals
        path = faster_path(rivals, prepared, batch_size) if others else path
    return path


def faster_path(
    engines: Mapping[str, DecodeEngine], prepared: PreparedText, batch_size: int
) -> str:
    """Race the paths, interleaved, on a prefill and a few decode steps of a batch."""
    prompts = [list(prompt) for prompt in prepared.prompts[:batch_size]]
    best_ns = dict.fromkeys(engines, math.inf)
    for _ in range(PROBE_ROUNDS):
        for path, engine in engines.items():
            begin = time.monotonic_ns()
            engine.generate_greedy(prompts, PROBE_TOKENS, prepared.eos_id)
            best_ns[path] = min(best_ns[path], time.monotonic_ns() - begin)
    return min(best_ns, key=best_ns.__getitem__)


def longest_row(prepared: PreparedText) -> int:
    """Tokens of the longest prompt with the longest answer or call behind it."""
    longest = max(len(prompt) for prompt in prepared.prompts)
    answers = max(len(call) for call in prepared.calls)
    return longest + max(prepared.workload.task.max_new_tokens, answers)


def _unsettled_warnings(choice: RegimeChoice) -> tuple[str, ...]:
    """Say so where the machine was too busy to tell which arithmetic serves fp16 best."""
    if not choice.unsettled:
        return ()
    regimes = ", ".join(choice.unsettled)
    return (f"the machine was too busy to choose the reference's arithmetic for rows {regimes}",)


def _ceiling_of(arithmetic: str) -> Arithmetic:
    """Name the ceiling of an arithmetic; CPUs without fp16 units multiply fp16 weights as fp32."""
    return "bf16" if arithmetic == "bf16" else "fp32"
