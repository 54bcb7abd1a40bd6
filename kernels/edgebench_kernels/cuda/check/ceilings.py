"""The GPU's two ceilings: how fast it copies its memory, and how fast it multiplies bf16."""

from __future__ import annotations

from typing import Any

import torch

from edgebench_kernels.cuda.check.samples import Estimate, estimate
from edgebench_kernels.cuda.check.timer import Timed, sample_rounds

COPY_BYTES = 1 << 30
"""Of the source; smaller where the GPU has little memory."""

PRODUCT = 8192
ROUNDS = 9


def copy(device: torch.device) -> Timed:
    """Device to device; bytes read and bytes written both count."""
    free, _ = torch.cuda.mem_get_info(device)
    size = min(COPY_BYTES, free // 8) // 4096 * 4096
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Timed(run=lambda: target.copy_(source), products=1, moved_bytes=2 * size)


def product(device: torch.device) -> Timed:
    """bf16, 8192 cubed, random: zeros are faster."""
    a, b = (torch.randn(PRODUCT, PRODUCT, dtype=torch.bfloat16, device=device) for _ in range(2))
    out = torch.empty_like(a)
    return Timed(run=lambda: torch.mm(a, b, out=out), products=1, operations=2 * PRODUCT**3)


def measured() -> dict[str, Any]:
    """Both, alone, over several rounds."""
    from edgebench_kernels.cuda.launcher import launcher_of

    device = launcher_of("cuda").device
    timed = {"copy": copy(device), "bf16": product(device)}
    sample_rounds(timed, ROUNDS, lambda: True)
    return {
        "copy_GBps": _rate(timed["copy"], timed["copy"].moved_bytes, 1e9),
        "bf16_TFLOPs": _rate(timed["bf16"], timed["bf16"].operations, 1e12),
        "copy_iqr_percent": _spread(timed["copy"]),
        "bf16_iqr_percent": _spread(timed["bf16"]),
        "rounds": ROUNDS,
    }


def _rate(timed: Timed, amount: int, unit: float) -> float | None:
    found = estimate(timed.times_ns)
    return None if found is None else amount * 1e9 / found.median / unit


def _spread(timed: Timed) -> float | None:
    found: Estimate | None = estimate(timed.times_ns)
    return None if found is None else 100 * found.iqr / found.median
