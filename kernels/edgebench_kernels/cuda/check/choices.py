"""Which free choices of the linears are worth a race, by how many tokens there are.

Short lists, not products of all that there is: blocks that fill the GPU about once, and of each
how its warps share the work. The default is what production takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from edgebench_kernels.cuda import (
    cluster_geometry,
    geometry,
    large_geometry,
    multicast_geometry,
    paths,
)
from edgebench_kernels.cuda.check.layer import MULTICAST_FROM
from edgebench_kernels.cuda.cluster_geometry import ClusterTuning
from edgebench_kernels.cuda.geometry import GemmTuning, GemvTuning, Launch, Linear
from edgebench_kernels.cuda.large_geometry import WgmmaTuning
from edgebench_kernels.cuda.multicast_geometry import MulticastTuning

TASKS = (64, 16, 2048, 256)
"""Numbers of tokens; an H200 was farthest from its bar at the first."""

MOST_STAGES = 12
FULL = 0.66
"""Of the GPU's multiprocessors that the blocks of a choice must occupy."""

WAYS = (
    {"producers": 4, "batch": 4, "batches": 2},
    {"producers": 4, "batch": 2, "batches": 4},
    {"producers": 4, "batch": 1, "batches": 4},
    {"producers": 2, "batch": 4, "batches": 2},
    {"producers": 0, "batch": 4, "batches": 2},
    {"producers": 0, "batch": 2, "batches": 4},
    {"producers": 0, "batch": 1, "batches": 8},
)
"""How warps share the work: see `WgmmaTuning`."""

Tuning = GemvTuning | GemmTuning | WgmmaTuning | ClusterTuning | MulticastTuning


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A launch, and the tuning that it was made from."""

    plan: Launch
    tuning: Tuning

    @property
    def text(self) -> str:
        """The kernel, and the tuning's fields."""
        values = {one.name: getattr(self.tuning, one.name) for one in fields(self.tuning)}
        texts = [f"{name}={value}" for name, value in values.items() if value is not None]
        return " ".join((self.plan.kernel, *texts))


def default(linear: Linear, arch: str, multiprocessors: int, shared_bytes: int) -> Choice:
    """What production takes; where that is cuBLAS, the kernel before it."""
    place = multiprocessors, shared_bytes
    kernel = paths.kernel_for("w4a16", arch, linear.m)
    if kernel == paths.GEMV:
        return _choice(linear, geometry.gemv_tuning(linear, *place))
    if arch == "sm_90a":
        return _choice(linear, large_geometry.wgmma_tuning(linear, *place))
    return _choice(linear, geometry.gemm_tuning(linear, *place))


def candidates(
    linear: Linear, arch: str, multiprocessors: int, shared_bytes: int
) -> Iterator[Choice]:
    """Choices whose blocks fit, and whose parts of K are long enough; each once."""
    base = default(linear, arch, multiprocessors, shared_bytes)
    tunings = _hopper if arch == "sm_90a" else _gemm
    seen = {base.text}
    for tuning in tunings(linear, multiprocessors, shared_bytes):
        choice = _choice(linear, tuning)
        splits = 1 if isinstance(tuning, MulticastTuning) else choice.plan.grid[2]
        is_long = linear.k // geometry.CHUNK_INPUTS // splits >= large_geometry.PART_CHUNKS
        if choice.plan.shared_bytes > shared_bytes or not (splits == 1 or is_long):
            continue
        if choice.text not in seen:
            seen.add(choice.text)
            yield choice


def _choice(linear: Linear, tuning: Tuning) -> Choice:
    if isinstance(tuning, GemvTuning):
        return Choice(plan=geometry.gemv(linear, tuning), tuning=tuning)
    if isinstance(tuning, GemmTuning):
        return Choice(plan=geometry.gemm(linear, tuning), tuning=tuning)
    if isinstance(tuning, ClusterTuning):
        return Choice(plan=cluster_geometry.w4a16_cluster(linear, tuning), tuning=tuning)
    if isinstance(tuning, MulticastTuning):
        return Choice(plan=multicast_geometry.w4a16_multicast(linear, tuning), tuning=tuning)
    return Choice(plan=large_geometry.w4a16_wgmma(linear, tuning), tuning=tuning)


def _gemm(linear: Linear, multiprocessors: int, shared_bytes: int) -> Iterator[GemmTuning]:
    base = geometry.gemm_tuning(linear, multiprocessors, shared_bytes)
    yield base
    for tiles, stages in ((2, 2), (2, 4), (4, 2), (4, 4)):
        for splits in {1, 2, 4, 8, base.splits}:
            yield replace(base, tiles=tiles, stages=stages, splits=splits)


def _hopper(
    linear: Linear, multiprocessors: int, shared_bytes: int
) -> Iterator[ClusterTuning | MulticastTuning | WgmmaTuning]:
    """Tokens that stay; from 17 tokens on warp groups, which lost at 16; tokens that are shared."""
    is_few = linear.m <= 16
    if linear.m <= cluster_geometry.CLUSTER_TOKENS[-1]:
        for tuning in cluster_geometry.tunings(linear, multiprocessors, shared_bytes):
            if is_few or tuning.warps == 8:
                yield tuning
    if linear.m >= MULTICAST_FROM:
        for sharers, tiles, batch in ((2, 2, 4), (4, 2, 4), (2, 2, 1), (2, 1, 4)):
            shared = {"sharers": sharers, "tiles": tiles, "batch": batch, "batches": 8 // batch}
            yield multicast_geometry.multicast_tuning(linear, shared_bytes, **shared)
    if not is_few:
        yield from _wgmma(linear, multiprocessors, shared_bytes)


def _wgmma(linear: Linear, multiprocessors: int, shared_bytes: int) -> Iterator[WgmmaTuning]:
    """The default's blocks in all ways, then other blocks in the most promising two."""
    base = large_geometry.wgmma_tuning(linear, multiprocessors, shared_bytes)
    yield base
    is_large = base.tiles * (base.tokens or 64) > 128
    for way in WAYS:
        if not (is_large and way["producers"] == 2):  # registers: see the kernel
            yield _deep(linear, replace(base, **way), shared_bytes)
    for block in _blocks(linear, base, multiprocessors):
        for way in WAYS[:2] if block.tiles < 4 else WAYS[:1]:  # four rows of tiles: registers
            yield _deep(linear, replace(block, **way), shared_bytes)


def _blocks(linear: Linear, base: WgmmaTuning, multiprocessors: int) -> Iterator[WgmmaTuning]:
    """Other blocks than the default's, that fill the GPU once."""
    sizes: tuple[tuple[int, int, int], ...]
    if linear.m <= 64:
        sizes = ((64, 1, 8), (64, 2, 8), (64, 1, 16), (64, 4, 8))
    else:
        sizes = ((128, 1, 8), (128, 2, 8), (256, 1, 8))
    for tokens, tiles, warps in sizes:
        one = replace(base, tokens=tokens, tiles=tiles, warps=warps, splits=1)
        for splits in large_geometry.WGMMA_SPLITS:
            block = replace(one, splits=splits)
            columns, rows, parts = large_geometry.w4a16_wgmma(linear, block).grid
            count = columns * rows * parts
            is_one_part_too_many = splits == 1 and count > multiprocessors
            is_full = FULL * multiprocessors <= count <= multiprocessors
            if (is_full or is_one_part_too_many) and block != base:
                yield block


def _deep(linear: Linear, tuning: WgmmaTuning, shared_bytes: int) -> WgmmaTuning:
    """With as many stages as fit, at least 3."""
    one, two = (
        large_geometry.w4a16_wgmma(linear, replace(tuning, stages=stages, splits=1))
        for stages in (32, 33)
    )
    stage = two.shared_bytes - one.shared_bytes
    return replace(tuning, stages=max(3, min(MOST_STAGES, shared_bytes // stage)))
