"""The decode step in one native call equals the same step with torch between the linears."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels import native  # noqa: E402
from edgebench_kernels.engine import (  # noqa: E402
    LlamaWeights,
    OpsChoice,
    PathChoice,
    RegimeChoice,
    build_fp16,
    build_int4,
    fastest_ops,
    load_reference,
    pack_int4,
    race,
)
from edgebench_kernels.engine.native_decoder import NativeDecoder  # noqa: E402
from edgebench_kernels.quantize import quantize_rtn  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native]

NEW = 8
ROOM = {"max_batch": 64, "max_length": 40}
# Relative difference of the logits to torch's operations on an fp32 cache. fp32: another order of
# sums, through 16-bit activations that may round the other way (5e-5 a product). fp16 cells are off
# by 2^-11, int8 ones by 1/254 of their peak, and both pass through three layers.
LARGEST = {"fp32": 5e-4, "fp16": 5e-3, "int8": 5e-2}


@pytest.fixture
def weights(checkpoint) -> LlamaWeights:
    return load_reference(checkpoint)


@pytest.fixture
def packed(weights):
    tensors = {name: quantize_rtn(w.numpy(), 32) for name, w in weights.linears().items()}
    return pack_int4(weights, tensors)


@pytest.fixture(params=native.supported_isas() if native.is_available() else [])
def isa(request):
    """Each instruction set in turn."""
    before = native.isa()
    native.force_isa(request.param)
    yield request.param
    native.force_isa(before)


def prompts_of(batch: int, *, is_ragged: bool) -> list[list[int]]:
    generator = torch.Generator().manual_seed(batch)
    longest = 30 if batch <= 6 else 12
    lengths = torch.randint(1, longest + 1, (batch,), generator=generator).tolist()
    if not is_ragged:
        lengths = [17] * batch
    return [torch.randint(0, 211, (n,), generator=generator).tolist() for n in lengths]


def padded(prompts):
    ids = torch.zeros(len(prompts), max(map(len, prompts)), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    return ids, [len(prompt) for prompt in prompts]


def difference(a, b) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("cell", list(LARGEST))
@pytest.mark.parametrize(("batch", "is_ragged"), [(1, False), (3, False), (3, True), (64, True)])
def test_logits_are_those_of_torch(weights, packed, cell: str, batch: int, is_ragged: bool) -> None:
    engine = build_int4(weights, {}, packed=packed, cell=cell, **ROOM)
    twin = build_int4(weights, {}, packed=packed, cell="fp32", ops="torch", **ROOM)
    assert isinstance(engine._decoder, NativeDecoder)
    assert twin._decoder is None
    ids, lengths = padded(prompts_of(batch, is_ragged=is_ragged))
    assert (
        difference(engine.forward_all(ids, lengths), twin.forward_all(ids, lengths))
        <= (LARGEST[cell])
    )
    assert difference(engine.prefill(ids, lengths), twin.prefill(ids, lengths)) <= LARGEST[cell]
    for step in range(3):
        tokens = (torch.arange(batch) + 50 * step) % 211
        assert difference(engine.decode(tokens), twin.decode(tokens)) <= LARGEST[cell]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_answers_are_those_of_torch_while_rows_leave(weights, packed, batch: int) -> None:
    engine = build_int4(weights, {}, packed=packed, cell="fp32", **ROOM)
    twin = build_int4(weights, {}, packed=packed, cell="fp32", ops="torch", **ROOM)
    prompts = prompts_of(batch, is_ragged=True)
    free = twin.generate_greedy(prompts, NEW, None)
    eos = free[0][NEW // 2]  # a token that ends at least one answer early
    assert engine.generate_greedy(prompts, NEW, None) == free
    assert engine.generate_greedy(prompts, NEW, eos) == twin.generate_greedy(prompts, NEW, eos)


@pytest.mark.parametrize("cell", list(LARGEST))
def test_a_row_computes_the_same_alone_and_after_others_left(weights, packed, cell: str) -> None:
    engine = build_int4(weights, {}, packed=packed, cell=cell, **ROOM)
    prompts = prompts_of(6, is_ragged=True)
    engine.prefill(*padded(prompts))
    engine.decode(torch.arange(6))
    order = engine.keep([1, 4, 5])
    together = engine.decode(torch.tensor(order) + 10)
    for row, place in enumerate(order):
        engine.prefill(*padded([prompts[place]]))
        engine.decode(torch.tensor([place]))
        alone = engine.decode(torch.tensor([place + 10]))
        assert difference(together[row], alone[0]) <= LARGEST["fp32"]


def test_greedy_and_logits_agree(weights, packed) -> None:
    engine = build_int4(weights, {}, PathChoice(single="w4a16", many="w4a8"), packed=packed, **ROOM)
    prompts = prompts_of(5, is_ragged=True)
    engine.prefill(*padded(prompts))
    logits = engine.decode(torch.arange(5))
    engine.prefill(*padded(prompts))
    assert engine.decode_greedy(list(range(5))) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("path", ["w4a16", "w4a8"])
def test_one_call_is_the_calls_one_by_one(weights, packed, path: str) -> None:
    """The prologues of the fused linears make bit for bit what the single operations make."""
    engine = build_int4(weights, {}, path, packed=packed, **ROOM)
    twin = build_int4(weights, {}, path, packed=packed, **ROOM)
    twin._decoder = None
    ids, lengths = padded(prompts_of(3, is_ragged=True))
    assert torch.equal(engine.prefill(ids, lengths), twin.prefill(ids, lengths))
    tokens = torch.tensor([3, 2, 1])
    assert torch.equal(engine.decode(tokens), twin.decode(tokens))


@pytest.mark.parametrize("arithmetic", ["fp32", "fp16"])
def test_the_reference_runs_the_same_operations(weights, arithmetic: str) -> None:
    choice = RegimeChoice.uniform(arithmetic)
    engine = build_fp16(weights, choice, cell="fp32", **ROOM)
    twin = build_fp16(weights, choice, cell="fp32", ops="torch", **ROOM)
    assert (engine.ops.many, twin.ops.many) == ("native", "torch")
    ids, lengths = padded(prompts_of(3, is_ragged=True))
    largest = 1e-5 if arithmetic == "fp32" else 5e-3  # activations rounded to fp16, either way
    assert difference(engine.prefill(ids, lengths), twin.prefill(ids, lengths)) <= largest
    tokens = torch.tensor([3, 2, 1])
    assert difference(engine.decode(tokens), twin.decode(tokens)) <= largest


def test_the_fastest_operations_are_taken(weights, monkeypatch) -> None:
    engine = build_fp16(weights, RegimeChoice.uniform("fp32"), max_batch=3, max_length=9)
    assert engine.available_ops == ("torch", "native", "native-1")
    clock = {"now": 0}
    costs = {(1, "torch"): 5, (1, "native"): 7, (1, "native-1"): 6}
    costs |= {(3, "torch"): 5, (3, "native"): 7, (3, "native-1"): 4}

    def decode(ids):
        clock["now"] += costs[len(ids), engine.ops.many]

    monkeypatch.setattr(engine, "decode", decode)
    monkeypatch.setattr(race.time, "perf_counter_ns", lambda: clock["now"])
    assert fastest_ops(engine) == OpsChoice(single="torch", many="native-1") == engine.ops


@pytest.mark.parametrize("room", [(1, 9), (2, 2), (1, 1)], ids=str)
def test_a_race_leaves_an_engine_that_answers_the_same(weights, room) -> None:
    choice = RegimeChoice.uniform("fp32")
    max_batch, max_length = room
    engine = build_fp16(weights, choice, max_batch=max_batch, max_length=max_length)
    before = engine.prefill(torch.tensor([[7]]), [1])
    assert {fastest_ops(engine).single, engine.ops.many} <= set(engine.available_ops)
    assert difference(engine.prefill(torch.tensor([[7]]), [1]), before) <= 1e-5


def test_operations_of_a_whole_decoder_stay(weights, packed) -> None:
    with pytest.raises(ValueError, match="one native call has no other operations"):
        build_int4(weights, {}, packed=packed).use_ops("torch")


def test_the_cache_is_fp16_unless_asked(weights, packed) -> None:
    assert build_int4(weights, {}, packed=packed).cache.store.dtype is torch.float16
    assert build_int4(weights, {}, packed=packed, cell="int8").cache.store.dtype is torch.int8
    with pytest.raises(ValueError, match=r"the cache holds fp32, fp16, int8, got 'fp8'"):
        build_int4(weights, {}, packed=packed, cell="fp8")
    with pytest.raises(ValueError, match=r"ops must be one of native, native-1, torch, got 'c'"):
        build_int4(weights, {}, packed=packed, ops="c")


def test_bad_steps_are_refused_and_leave_the_cache_as_it_was(weights, packed) -> None:
    engine = build_int4(weights, {}, packed=packed, max_batch=2, max_length=5)
    with pytest.raises(ValueError, match=r"token ids must be 0\.\.210, got 1\.\.211"):
        engine.prefill(torch.tensor([[1, 211]]), [2])
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    engine.prefill(ids, [4, 3])
    for bad in ([-1, 3], [3, 211]):
        with pytest.raises(ValueError, match=r"token ids must be 0\.\.210"):
            engine.decode_greedy(bad)
        with pytest.raises(ValueError, match=r"token ids must be 0\.\.210"):
            engine.decode(torch.tensor(bad))
    with pytest.raises(ValueError, match="2 active rows, got shape"):
        engine.decode_greedy([1])
    with pytest.raises(ValueError, match="2 active rows, got shape"):
        engine.decode(torch.tensor([[1, 2]]))
    assert engine.cache.length == 4
    engine.decode_greedy([1, 2])
    for step in (engine.decode_greedy, lambda ids: engine.decode(torch.tensor(ids))):
        with pytest.raises(ValueError, match="the KV cache is full: max_length=5"):
            step([1, 2])


def test_overflow_is_an_error_and_not_an_answer(weights, packed) -> None:
    embedding = weights.tensors["model.embed_tokens.weight"].clone()
    embedding[7] = torch.inf
    tensors = {**weights.tensors, "model.embed_tokens.weight": embedding}
    broken = LlamaWeights(config=weights.config, tensors=tensors)
    engine = build_int4(broken, {}, packed=packed, max_batch=2)
    engine.prefill(torch.tensor([[1], [2]]), [1, 1])
    with pytest.raises(FloatingPointError, match=r"logits are not finite.*w4a16.*overflowed"):
        engine.decode_greedy([1, 7])
    with pytest.raises(FloatingPointError, match="not finite"):
        engine.generate_greedy([[1, 7]], 4, None)
