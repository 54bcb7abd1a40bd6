"""GPU engines from a checkpoint: the fp16 reference, and INT4 with the same engine around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgebench_kernels.cuda.engine import GpuEngine
from edgebench_kernels.cuda.engine_linears import Fp16Linear, Int4Path
from edgebench_kernels.cuda.engine_state import Room
from edgebench_kernels.cuda.launcher import Launcher, memory_errors
from edgebench_kernels.cuda.linear import GpuInt4
from edgebench_kernels.engine.arithmetic import PathChoice
from edgebench_kernels.engine.fuse import fused_linears
from edgebench_kernels.engine.fused_tensors import fused_tensors
from edgebench_kernels.engine.weights import LlamaWeights, linear_shapes
from edgebench_kernels.formats import Int4Tensor


def resident(weights: LlamaWeights, launcher: Launcher) -> LlamaWeights:
    """The same weights, of which the embedding and the norms lie on the GPU.

    Engines that are built from these share them; the linears stay where they are.
    """
    linears = set(linear_shapes(weights.config))
    with memory_errors(launcher, "engine"):
        tensors = {
            name: tensor if name in linears else tensor.to(launcher.device)
            for name, tensor in weights.tensors.items()
        }
    return replace(weights, tensors=tensors)


def build_fp16_on(
    launcher: Launcher,
    weights: LlamaWeights,
    room: Room,
) -> GpuEngine:
    """The reference: fp16 weights, multiplied by cuBLAS."""
    placed = resident(weights, launcher)
    linears = {
        fused: Fp16Linear(launcher, [placed.linear(name) for name in names])
        for fused, names in fused_linears(weights.config).items()
    }
    return GpuEngine(launcher, weights.config, placed.tensors, linears, room)


def build_int4_on(
    launcher: Launcher,
    weights: LlamaWeights,
    packed: Mapping[str, GpuInt4],
    choice: PathChoice,
    room: Room,
) -> GpuEngine:
    """The INT4 engine on weights from `pack_int4_on`, which engines of other paths may share."""
    linears = {name: Int4Path(one, choice) for name, one in packed.items()}
    tensors = resident(weights, launcher).tensors
    return GpuEngine(launcher, weights.config, tensors, linears, room)


def pack_int4_on(
    launcher: Launcher, weights: LlamaWeights, quantized: Mapping[str, Int4Tensor]
) -> dict[str, GpuInt4]:
    """Fuse and pack quantized tensors on the GPU; gate and up share lanes, for SwiGLU."""
    inner = weights.config.intermediate_size
    return {
        name: GpuInt4.pack(launcher, tensor, pair=inner if name.endswith(".gate_up") else 0)
        for name, tensor in fused_tensors(weights, quantized)
    }
