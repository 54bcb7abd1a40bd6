"""What the stages are going to launch, for `precompile`: found by running their code dry."""

from __future__ import annotations

from dataclasses import replace

import torch

from edgebench_kernels.cuda.check.layer import BY_ROW, GROUP, SHAPES, TOKENS, is_applicable
from edgebench_kernels.cuda.check.models import LLAMA_8B
from edgebench_kernels.cuda.check.precompile import Job
from edgebench_kernels.cuda.check.recorder import Recorder
from edgebench_kernels.cuda.engine import GpuEngine
from edgebench_kernels.cuda.engine_linears import Int4Path
from edgebench_kernels.cuda.engine_state import Room
from edgebench_kernels.cuda.geometry import CHUNK_BYTES, CHUNK_INPUTS
from edgebench_kernels.cuda.layout import TILE_ROWS, kernel_group, padded_inputs
from edgebench_kernels.cuda.linear import GpuInt4, Product
from edgebench_kernels.cuda.products import PRODUCTS
from edgebench_kernels.engine.arithmetic import PathChoice
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.engine.fuse import fused_shapes
from edgebench_kernels.engine.weights import linear_shapes, tensor_shapes


def timing_jobs(arch: str, multiprocessors: int) -> list[Job]:
    """Of every kernel of ours that the layer's table times."""
    recorder = Recorder(arch, multiprocessors)
    for n, k in SHAPES.values():
        weights, by_row = empty_int4(recorder, n, k), empty_int4(recorder, n, k, group=k)
        for m in TOKENS:
            x = torch.empty(m, k, dtype=torch.float16, device="meta")
            y = torch.empty(m, n, dtype=torch.float16, device="meta")
            for kernel, run in PRODUCTS.items():
                if is_applicable(kernel, arch, m):
                    run(weights, Product(x=x, y=y, overlap=True))
            for kernel in BY_ROW:
                if is_applicable(kernel, arch, m):
                    PRODUCTS[kernel](by_row, Product(x=x, y=y, overlap=True))
    return list(recorder.plans)


def engine_jobs(arch: str, multiprocessors: int, config: LlamaConfig = LLAMA_8B) -> list[Job]:
    """Of the INT4 engine of a model, batches of 1 and 16; of its layers one is enough."""
    one = replace(config, layers=1)
    recorder = Recorder(arch, multiprocessors, "cpu")
    linears = set(linear_shapes(one))
    tensors = {
        name: torch.empty(shape, dtype=torch.float16)
        for name, shape in tensor_shapes(one).items()
        if name not in linears
    }
    packed = {
        name: Int4Path(
            empty_int4(recorder, n, k, pair=n // 2 if name.endswith("gate_up") else 0),
            PathChoice.of("w4a16"),
        )
        for name, (n, k) in fused_shapes(one).items()
    }
    engine = GpuEngine(recorder, one, tensors, packed, Room(max_batch=16, max_length=64))
    for batch in (1, 16):
        tokens = engine.prefill_greedy(torch.zeros(batch, 32, dtype=torch.long), [32] * batch)
        engine.decode_greedy(tokens)
    return list(recorder.plans)


def empty_int4(recorder: Recorder, n: int, k: int, *, pair: int = 0, group: int = GROUP) -> GpuInt4:
    """Weights of this shape that hold nothing."""
    chunk_bytes = CHUNK_BYTES[kernel_group(k, group)]
    size = (-(-n // TILE_ROWS), padded_inputs(k) * chunk_bytes // CHUNK_INPUTS)
    data = torch.empty(size, dtype=torch.uint8, device=recorder.device)
    return GpuInt4(recorder, data, (n, k), group, pair)
