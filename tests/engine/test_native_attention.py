"""Native RoPE, cache append and attention against float64, for every cell and instruction set.

Bounds: u = 2^-24; see tests/kernels/test_step_ops.py for the sums.
"""

from __future__ import annotations

import ctypes

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels import native  # noqa: E402
from edgebench_kernels.engine.cache import KvCache, quantize_cells  # noqa: E402
from edgebench_kernels.engine.config import LlamaConfig  # noqa: E402
from edgebench_kernels.engine.native_ops import CacheView, NativeOps, view_of  # noqa: E402
from edgebench_kernels.engine.rope import Rotations  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native]

U = 2.0**-24
CELLS = ("fp32", "fp16", "int8")
# (heads, kv_heads, head_dim): register borders of every ISA, one to five queries a head.
HEADS = [(1, 1, 8), (4, 2, 32), (6, 2, 24), (5, 1, 64), (8, 8, 16), (4, 2, 128), (3, 1, 200)]
LENGTHS = [9, 1, 21, 30]


@pytest.fixture(params=native.supported_isas() if native.is_available() else [])
def isa(request):
    """Each instruction set in turn."""
    before = native.isa()
    native.force_isa(request.param)
    yield request.param
    native.force_isa(before)


def config_of(heads: int, kv_heads: int, head_dim: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=8,
        hidden_size=16,
        intermediate_size=16,
        layers=2,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=64,
        rope_theta=1e4,
        rms_norm_eps=1e-5,
        is_tied=True,
    )


class Bench:
    """A cache with prompts of LENGTHS already in it, native operations on it, and random qkv."""

    def __init__(self, config: LlamaConfig, cell: str, *, batch: int = len(LENGTHS)) -> None:
        self.config = config
        self.cache = KvCache(config, batch + 1, 40, cell)  # one row more than is used
        self.rotations = Rotations(config, 40)
        self.ops = NativeOps(config, self.cache, self.rotations)
        self.generator = torch.Generator().manual_seed(7)

    def qkv(self, rows: int) -> torch.Tensor:
        width = self.config.qkv_heads * self.config.head_dim
        return 2 * torch.randn(rows, width, generator=self.generator)

    def rotated(self, qkv: torch.Tensor, positions: list[int]) -> torch.Tensor:
        """q, k, v in float64 [rows, heads, D] after RoPE."""
        config, half = self.config, self.config.head_dim // 2
        heads = qkv.double().view(-1, config.qkv_heads, config.head_dim).clone()
        cos, sin = self.rotations.halves[positions].double().unbind(1)
        cos, sin = cos[:, None], sin[:, None]
        turned = heads[:, : config.heads + config.kv_heads]
        a, b = turned[..., :half].clone(), turned[..., half:].clone()
        turned[..., :half], turned[..., half:] = a * cos - b * sin, b * cos + a * sin
        return heads

    def cells(self, layer: int, row: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the cache holds of a row, float64 keys and values [kv_heads, columns, D]."""
        stored = self.cache.store[layer, :, row, :, start : self.cache.length].double()
        if self.cache.scales is not None:
            scales = self.cache.scales[layer, :, row, :, start : self.cache.length]
            stored = stored * scales.double()[..., None]
        return stored[0], stored[1]


def check_row(bench, query, keys, values, mixed) -> None:
    """One row's attention [heads, D] against float64, its error bounded by its own numbers."""
    config, dim = bench.config, bench.config.head_dim
    group = config.heads // config.kv_heads
    keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
    scores = torch.einsum("hd,htd->ht", query, keys) / dim**0.5
    sizes = torch.einsum("hd,htd->ht", query.abs(), keys.abs()) / dim**0.5
    weights = scores.softmax(-1)
    exact = torch.einsum("ht,htd->hd", weights, values)
    # A score: its sum to dim u, cells, scales and products to u each. A weight exp(s - max): twice
    # that, and the exponential itself; then the two sums over columns.
    off = ((dim + 8) * U * sizes).amax(-1, keepdim=True)
    columns = keys.shape[1]
    spread = torch.einsum("ht,htd->hd", weights, values.abs())
    bound = spread * (2.2 * off + (2 * columns + 32) * U) + 1e-30
    assert ((mixed.double().view_as(exact) - exact).abs() <= bound).all()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("heads", HEADS, ids=lambda heads: "x".join(map(str, heads)))
@pytest.mark.parametrize("lengths", [[30], [21, 21], LENGTHS], ids=["one", "even", "ragged"])
def test_prompts_then_tokens(heads, cell: str, lengths: list[int]) -> None:
    bench = Bench(config_of(*heads), cell, batch=len(lengths))
    config, cache = bench.config, bench.cache
    cache.reset(lengths)
    starts = [max(lengths) - length for length in lengths]
    prompt_qkv = bench.qkv(sum(lengths))
    exact = bench.rotated(prompt_qkv, [place for length in lengths for place in range(length)])
    queries = prompt_qkv.clone()
    mixed = bench.ops.prompt_attention(lengths)(1, queries)
    # RoPE: two products and a sum, each to u.
    turned = queries.view_as(exact).double()
    assert ((turned - exact).abs() <= 4 * U * exact.abs().amax(-1, keepdim=True) * 2).all()
    packed = 0
    for row, length in enumerate(lengths):
        keys, values = bench.cells(1, row, starts[row])
        for place in range(length):
            query = turned[packed, : config.heads]
            check_row(bench, query, keys[:, : place + 1], values[:, : place + 1], mixed[packed])
            packed += 1
    for _ in range(3):
        qkv = bench.qkv(len(lengths))
        mixed = bench.ops.token_attention()(1, qkv)
        for row in range(len(lengths)):
            query = qkv.view(len(lengths), -1, config.head_dim)[row, : config.heads].double()
            check_row(bench, query, *bench.cells(1, row, starts[row]), mixed[row])
    assert not cache.store[0].any(), "the other layer stays as it was"
    assert not cache.store[1, :, len(lengths) :].any(), "rows out of use stay as they were"


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("cell", CELLS)
def test_cells_are_what_torch_stores(cell: str) -> None:
    bench, twin = (Bench(config_of(6, 2, 24), cell) for _ in range(2))
    lengths, config = [5, 5], bench.config
    for one in (bench, twin):
        one.cache.reset(lengths)
    qkv = bench.qkv(10)
    qkv[3] *= 1e-34  # below the smallest peak of an int8 cell and of a subnormal half
    bench.ops.prompt_attention(lengths)(0, qkv)  # rotates q and k in place
    heads = qkv.view(2, 5, config.qkv_heads, config.head_dim).transpose(1, 2)
    twin.cache.write_prompts(0, heads[:, 6:8], heads[:, 8:10])
    assert torch.equal(bench.cache.store, twin.cache.store)
    if cell == "int8":
        torch.testing.assert_close(bench.cache.scales, twin.cache.scales, rtol=2 * U, atol=0)


def test_int8_cells_are_within_half_a_step() -> None:
    cells = torch.randn(50, 24, generator=torch.Generator().manual_seed(0))
    codes, scales = quantize_cells(cells)
    error = (codes.double() * scales.double()[:, None] - cells.double()).abs()
    assert (error <= scales.double()[:, None] / 2 * (1 + 256 * U)).all()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("head", [0, 3, 4], ids=["query", "key", "value"])
def test_what_is_not_finite_reaches_the_output(cell: str, bad: float, head: int) -> None:
    bench = Bench(config_of(3, 1, 16), cell)
    bench.cache.reset([2, 2])
    bench.ops.prompt_attention([2, 2])(0, bench.qkv(4))
    qkv = bench.qkv(2)
    qkv.view(2, 5, 16)[1, head, 3] = bad
    mixed = bench.ops.token_attention()(0, qkv)
    assert torch.isfinite(mixed[0]).all()
    assert not torch.isfinite(mixed[1]).all()


def door(bench, **changes):
    """The attention door with arguments of a decode step, some of them changed."""
    view = view_of(bench.config, bench.cache, bench.rotations)
    for name, value in changes.pop("view", {}).items():
        setattr(view, name, value)
    starts = torch.tensor(changes.pop("starts", [0] * 5), dtype=torch.int32)
    counts = changes.pop("counts", None)
    counts = None if counts is None else torch.tensor(counts, dtype=torch.int32)
    qkv = bench.qkv(4)
    given = {"layer": 0, "batch": 4, "column": 3, "qkv": qkv.data_ptr(), **changes}
    return native.library().eb_attention(
        0,
        ctypes.byref(view),
        given["layer"],
        given["batch"],
        given["column"],
        starts.data_ptr(),
        None if counts is None else counts.data_ptr(),
        given["qkv"],
        qkv.data_ptr(),
    )


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"layer": 2}, native.SHAPE),
        ({"layer": -1}, native.SHAPE),
        ({"batch": 0}, native.SHAPE),
        ({"batch": 6}, native.SHAPE),
        ({"column": 40}, native.COLUMN),
        ({"column": -1}, native.COLUMN),
        ({"starts": [0, 0, 4, 0, 0]}, native.COLUMN),
        ({"starts": [0, -1, 0, 0, 0]}, native.COLUMN),
        ({"counts": [1, 5, 1, 1]}, native.COLUMN),
        ({"counts": [1, 0, 1, 1]}, native.COLUMN),
        ({"qkv": None}, native.NULL),
        ({"view": {"cells": None}}, native.NULL),
        ({"view": {"rotations": None}}, native.NULL),
        ({"view": {"cell": 2}}, native.NULL),  # int8 without scales
        ({"view": {"cell": 3}}, native.SHAPE),
        ({"view": {"dim": 12}}, native.SHAPE),
        ({"view": {"heads": 5}}, native.SHAPE),
        ({"view": {"kv_heads": 0}}, native.SHAPE),
        ({"view": {"max_length": 1 << 40}}, native.SHAPE),
    ],
    ids=str,
)
def test_refused_arguments(changes, error: int) -> None:
    assert door(Bench(config_of(4, 2, 16), "fp16"), **changes) == error


def test_a_view_has_the_size_of_its_struct() -> None:
    assert ctypes.sizeof(CacheView) == 10 * 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: x.double(), r"qkv must be float32 \[rows, 128\], got torch.float64 \[4, 128\]"),
        (lambda x: x[:, :64], r"qkv must be float32 \[rows, 128\], got torch.float32 \[4, 64\]"),
        (lambda x: x.T.contiguous().T, r"qkv must be contiguous on the CPU, got strides \[1, 4\]"),
        (lambda x: x[:3], r"qkv must have 4 rows, got \[3, 128\]"),
    ],
)
def test_tensors_that_c_cannot_read_are_refused(make, message: str) -> None:
    bench = Bench(config_of(4, 2, 16), "fp16")
    bench.cache.reset([1] * 4)
    with pytest.raises(ValueError, match=message):
        bench.ops.token_attention()(0, make(bench.qkv(4)))
