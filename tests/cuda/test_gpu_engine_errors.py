"""What a GPU engine refuses, and what it says of itself: no kernel is launched here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda.engine import BATCHES, GpuEngine  # noqa: E402
from edgebench_kernels.cuda.engine_build import (  # noqa: E402
    build_fp16_on,
    build_int4_on,
    pack_int4_on,
    resident,
)
from edgebench_kernels.cuda.engine_state import Room, RowState  # noqa: E402
from edgebench_kernels.cuda.errors import CudaMemoryError  # noqa: E402
from edgebench_kernels.engine import (  # noqa: E402
    PathChoice,
    RegimeChoice,
    build_fp16,
    build_int4,
)
from edgebench_kernels.engine.weights import EMBEDDING  # noqa: E402

from . import tiny_llama  # noqa: E402
from .emulated_launcher import Collector  # noqa: E402
from .tiny_llama import CONFIG  # noqa: E402

pytestmark = pytest.mark.torch

WEIGHTS = tiny_llama.weights_of()
QUANTIZED = tiny_llama.quantized(WEIGHTS)


def int4_engine(launcher: Collector, room: Room, path: str = "w4a16") -> GpuEngine:
    packed = pack_int4_on(launcher, WEIGHTS, QUANTIZED)
    return build_int4_on(launcher, WEIGHTS, packed, PathChoice.of(path), room)


@pytest.fixture
def engine() -> GpuEngine:
    return int4_engine(Collector(), Room(max_batch=2, max_length=6))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 100, "hidden_size to be a multiple of 8, got 100; use device='cpu'"),
        ("intermediate_size", 36, "intermediate_size to be a multiple of 8, got 36"),
        ("head_dim", 24, "head_dim to be a multiple of 16 up to 256, got 24"),
        ("head_dim", 272, "head_dim to be a multiple of 16 up to 256, got 272"),
    ],
)
def test_models_that_the_kernels_cannot_run(field: str, value: int, message: str) -> None:
    config = replace(CONFIG, **{field: value})
    with pytest.raises(ValueError, match=message):
        GpuEngine(Collector(), config, {}, {}, Room())


def test_cells_and_sizes_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="on GPUs the cache holds fp16 or int8, got 'fp32'"):
        Room(cell="fp32")
    with pytest.raises(ValueError, match="max_batch and max_length must be >= 1, got 0 and 512"):
        Room(max_batch=0)


def test_choices_of_the_cpu_are_refused() -> None:
    with pytest.raises(ValueError, match="regimes is chosen on CPUs only"):
        build_fp16(WEIGHTS, RegimeChoice.uniform("fp16"), device="cuda")
    with pytest.raises(ValueError, match="ops is chosen on CPUs only, got torch"):
        build_int4(WEIGHTS, {}, ops="torch", packed={}, device="cuda")


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda e: e.decode(torch.tensor([1])), "one token for each of 2 active rows"),
        (lambda e: e.decode(torch.tensor([1, 64])), r"token ids must be 0\.\.63, got 1\.\.64"),
        (lambda e: e.decode_greedy([-1, 5]), r"token ids must be 0\.\.63, got -1\.\.5"),
        (lambda e: e.prefill(torch.zeros(3, 2), [1, 1, 1]), r"batch must be 1\.\.2, got 3"),
        (lambda e: e.prefill(torch.zeros(1, 9), [7]), "7 tokens but the cache holds max_length=6"),
        (lambda e: e.forward_all(torch.zeros(1, 9), [0]), r"lengths must be 1\.\.9, got \[0\]"),
        (lambda e: e.decode_ahead([1, 1], 3), "the KV cache is full: max_length=6"),
        (lambda e: e.generate_greedy([[1] * 4], 4, None), "needs 7 columns"),
    ],
)
def test_wrong_requests(
    engine: GpuEngine, use: Callable[[GpuEngine], object], message: str
) -> None:
    engine.prefill(torch.zeros(2, 4, dtype=torch.long), [4, 2])
    with pytest.raises(ValueError, match=message):
        use(engine)


def test_a_step_before_any_prompt(engine: GpuEngine) -> None:
    with pytest.raises(ValueError, match="one token for each of 0 active rows"):
        engine.decode(torch.tensor([1]))


def test_rows_are_full_one_by_one(engine: GpuEngine) -> None:
    engine.prefill(torch.zeros(2, 5, dtype=torch.long), [5, 1])
    engine.decode_greedy([0, 0])
    with pytest.raises(ValueError, match="the KV cache is full"):
        engine.decode_greedy([0, 0])
    assert engine.keep([1]) == [1]
    engine.decode_greedy([0])


def test_what_executes_is_named() -> None:
    launcher, room = Collector(arch="sm_87"), Room()
    path = "w4a16/sm_87 (w4a16_gemv@1-8 w4a16_gemm@9-1024 w4_dequant+cublas@>1024)"
    assert int4_engine(launcher, room).describe() == path
    assert build_fp16_on(launcher, WEIGHTS, room).describe() == "fp16/sm_87 (cublas)"


def test_bytes_and_operations() -> None:
    launcher, room = Collector(), Room(max_batch=2)
    weights = sum(n * k for n, k in (w.shape for w in WEIGHTS.linears().values()))
    row = 2 * CONFIG.hidden_size
    reference = build_fp16_on(launcher, WEIGHTS, room)
    assert reference.operations_per_token == 2 * weights
    assert reference.weight_bytes_at(2) == 2 * weights + 2 * row
    engine = int4_engine(launcher, room)
    # codes, and 3 bytes of scale and zero point for each group of 32; K = 96 is padded to 128
    packed = sum(n * -(-k // 64) * 64 for n, k in (w.shape for w in WEIGHTS.linears().values()))
    assert engine.weight_bytes == packed // 2 + 3 * packed // 32 + row
    assert engine.operations_per_token == 2 * weights


def test_a_batch_runs_in_the_next_size() -> None:
    launcher = Collector()
    engine = int4_engine(launcher, Room(max_batch=7, max_length=8))
    sizes = []
    for batch in (1, 2, 3, 4, 5, 6, 7):
        engine.prefill(torch.zeros(batch, 1, dtype=torch.long), [1] * batch)
        before = set(engine._graphs)
        engine.decode_greedy([0] * batch)
        sizes += sorted(set(engine._graphs) - before)
    assert sizes == [1, 2, 4, 7]
    assert launcher.captures == 4, "once for each size"
    assert list(BATCHES) == sorted(set(BATCHES))


def test_engines_share_what_is_resident() -> None:
    launcher = Collector()
    placed = resident(WEIGHTS, launcher)
    one, other = (build_fp16_on(launcher, placed, Room()) for _ in range(2))
    assert one._embedding.data_ptr() == other._embedding.data_ptr()
    tied = tiny_llama.weights_of(replace(CONFIG, is_tied=True))
    engine = build_fp16_on(launcher, tied, Room())
    head = engine.linears["lm_head"]
    assert head._weight.data_ptr() == engine._embedding.data_ptr() == tied.tensors[
        EMBEDDING
    ].data_ptr()  # fmt: skip


def test_memory_that_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Full(Collector):
        def memory_bytes(self) -> tuple[int, int]:
            return 3 * 10**9, 8 * 10**9

    def refuse(*sizes: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    launcher = Full()
    packed = pack_int4_on(launcher, WEIGHTS, QUANTIZED)
    monkeypatch.setattr(torch, "zeros", refuse)
    with pytest.raises(CudaMemoryError, match=r"3\.0 of 8\.0 GB are free\); end other processes"):
        build_int4_on(launcher, WEIGHTS, packed, PathChoice.of("w4a16"), Room())


def test_state_after_a_warm_up_is_what_it_was() -> None:
    rows = RowState(3, 4, torch.device("cpu"))
    rows.reset([2, 1])
    rows.feed(torch.tensor([5, 6]))
    with rows.preserved():
        for state in (rows.ids, rows.columns, rows.counts, rows.finished, rows.status):
            state += 1
    assert rows.read(2) == ([5, 6], [0, 0])
    assert rows.columns.tolist() == [2, 1, 0]
    assert rows.counts.tolist() == [0, 0, 0]
    assert rows.finished.tolist() == [0, 0, 1]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 64])
def test_what_kernels_are_given_is_aligned(rows: int) -> None:
    state = RowState(rows, 5, torch.device("cpu"))
    assert state.ids.data_ptr() % 16 == state.status.data_ptr() % 16 == 0
    assert (len(state.ids), len(state.status)) == (rows, rows)
