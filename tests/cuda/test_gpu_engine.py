"""The GPU engine's own code on emulated kernels, against float64 and the CPU's engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda.engine import GpuEngine  # noqa: E402
from edgebench_kernels.cuda.engine_build import (  # noqa: E402
    build_fp16_on,
    build_int4_on,
    pack_int4_on,
)
from edgebench_kernels.cuda.engine_state import Room  # noqa: E402
from edgebench_kernels.cuda.launcher import Argument  # noqa: E402
from edgebench_kernels.engine import LlamaWeights, PathChoice, build_int4  # noqa: E402

from . import tiny_llama  # noqa: E402
from .emulated_launcher import Collector, EmulatedLauncher  # noqa: E402
from .emulation import Emulation, EmulationError  # noqa: E402
from .tiny_llama import CONFIG  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native, pytest.mark.slow]

WEIGHTS = tiny_llama.weights_of()
QUANTIZED = tiny_llama.quantized(WEIGHTS)
EXACT = tiny_llama.rounded(WEIGHTS, QUANTIZED)
PLAIN = {name: tensor.double() for name, tensor in WEIGHTS.tensors.items()}
PROMPTS = [[1, 5, 9], [7, 3, 2, 40, 50], [8]]
TOKENS = 6
LENGTH = 12
KINDS = ("int4, fp16 cells", "int4, int8 cells", "fp16")

# Logits have a standard deviation of 2. Activations are rounded to fp16, by 2^-12 of themselves on
# average, some ten times a layer, and add up in the residual stream.
LARGEST_ERROR = 0.03
# Cells of a byte are off by up to 1 / 254 of a head's peak.
LARGEST_INT8_ERROR = 0.2


def engine_of(kind: str, launcher: Collector, weights: LlamaWeights = WEIGHTS) -> GpuEngine:
    room = Room(max_batch=3, max_length=LENGTH, cell="int8" if "int8" in kind else "fp16")
    if kind == "fp16":
        return build_fp16_on(launcher, weights, room)
    packed = pack_int4_on(launcher, weights, tiny_llama.quantized(weights))
    return build_int4_on(launcher, weights, packed, PathChoice.of("w4a16"), room)


def padded(prompts: list[list[int]]) -> tuple[torch.Tensor, list[int]]:
    lengths = [len(prompt) for prompt in prompts]
    ids = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    return ids, lengths


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    """Every kernel that an engine of any kind takes with one to three rows."""
    collector = Collector()
    for kind in KINDS:
        engine = engine_of(kind, collector)
        for batch in (1, 2, 3):
            engine.prefill_greedy(*padded(PROMPTS[:batch]))
            engine.decode(torch.zeros(batch, dtype=torch.long))
        engine.prefill_greedy(*padded(PROMPTS[2:]))
        engine.forward_all(*padded(PROMPTS))
    return Emulation(tmp_path_factory.mktemp("engine"), list(collector.variants))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def engine(program: Emulation, kind: str) -> GpuEngine:
    return engine_of(kind, EmulatedLauncher(program=program))


def exact(kind: str, tokens: list[int]) -> torch.Tensor:
    return tiny_llama.logits_of(CONFIG, PLAIN if kind == "fp16" else EXACT, tokens)


def largest_error(logits: torch.Tensor, expected: torch.Tensor) -> float:
    return float((logits.double() - expected).abs().nan_to_num(torch.inf).max())


@pytest.mark.parametrize("batch", [1, 3])
def test_prompts_and_steps_equal_float64(engine: GpuEngine, kind: str, batch: int) -> None:
    prompts = PROMPTS[:batch]
    errors = []
    logits = engine.prefill(*padded(prompts))
    rows = [list(prompt) for prompt in prompts]
    for token in (11, 60, 3, 3):
        errors += [largest_error(logits[i], exact(kind, row)[-1]) for i, row in enumerate(rows)]
        tokens = [(token + i) % CONFIG.vocab_size for i in range(batch)]
        for row, one in zip(rows, tokens, strict=True):
            row.append(one)
        logits = engine.decode(torch.tensor(tokens))
    assert max(errors) <= (LARGEST_INT8_ERROR if "int8" in kind else LARGEST_ERROR)


@pytest.mark.parametrize("kind", ["int4, fp16 cells", "fp16"])
def test_greedy_answers_are_those_of_float64(engine: GpuEngine, kind: str) -> None:
    answers = engine.generate_greedy(PROMPTS, TOKENS, None)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        logits = exact(kind, [*prompt, *answer[:-1]])[len(prompt) - 1 :]
        best, second = logits.topk(2).values.unbind(-1)
        assert float((best - second).min()) > 2 * LARGEST_ERROR, "a near tie: choose another seed"
        assert answer == logits.argmax(-1).tolist()


@pytest.mark.parametrize("kind", ["int4, fp16 cells", "int4, int8 cells"])
def test_greedy_answers_are_those_of_the_cpu(engine: GpuEngine, kind: str) -> None:
    """With end of sequence, so that rows leave the batch and others take their places."""
    cell = "int8" if "int8" in kind else "fp16"
    cpu = build_int4(WEIGHTS, QUANTIZED, max_batch=3, max_length=LENGTH, cell=cell)
    eos = cpu.generate_greedy(PROMPTS, TOKENS, None)[0][1]
    expected = cpu.generate_greedy(PROMPTS, TOKENS, eos)
    assert [len(answer) for answer in expected] == [2, TOKENS, TOKENS]
    assert engine.generate_greedy(PROMPTS, TOKENS, eos) == expected
    assert engine.generate_greedy(PROMPTS[1:2], TOKENS, eos) == expected[1:2]


@pytest.mark.parametrize("kind", ["int4, fp16 cells"])
def test_a_warm_engine_meets_nothing_for_the_first_time(kind: str) -> None:
    launcher = Collector()
    engine = engine_of(kind, launcher)
    lengths = [len(prompt) for prompt in PROMPTS]
    engine.warm_up([lengths, *([length] for length in lengths)])
    assert engine.batch == 0
    known, captures = set(launcher.variants), launcher.captures
    for prompts in (PROMPTS, PROMPTS[:1], PROMPTS[1:2], PROMPTS[2:]):
        engine.generate_greedy(prompts, TOKENS, None)
    assert set(launcher.variants) == known
    assert launcher.captures == captures == 3


@pytest.mark.parametrize("kind", ["int4, fp16 cells"])
def test_a_warm_engine_answers_as_a_cold_one(engine: GpuEngine, kind: str) -> None:
    cold = engine.generate_greedy(PROMPTS, TOKENS, None)
    engine.warm_up([[len(prompt) for prompt in PROMPTS]])
    assert engine.generate_greedy(PROMPTS, TOKENS, None) == cold


@pytest.mark.parametrize("kind", ["int4, int8 cells"])
def test_rows_that_stay_keep_their_cells(engine: GpuEngine, kind: str) -> None:
    """The last row moves to the front; what it then says is what it would have said alone."""
    engine.prefill(*padded(PROMPTS))
    assert engine.keep([2]) == [2]
    assert (engine.batch, engine.max_batch, engine.max_length) == (1, 3, LENGTH)
    moved = engine.decode(torch.tensor([17]))
    engine.prefill(*padded(PROMPTS[2:]))
    assert torch.equal(engine.decode(torch.tensor([17])), moved)


@pytest.mark.parametrize("kind", ["int4, fp16 cells"])
def test_the_last_rows_can_leave_without_a_move(engine: GpuEngine, kind: str) -> None:
    engine.prefill(*padded(PROMPTS))
    assert engine.keep([0, 1]) == [0, 1]
    two = engine.decode(torch.tensor([17, 18]))
    engine.prefill(*padded(PROMPTS[:2]))
    assert torch.equal(engine.decode(torch.tensor([17, 18])), two)


@pytest.mark.parametrize("kind", ["int4, fp16 cells"])
def test_steps_without_a_look_say_the_same(engine: GpuEngine, kind: str) -> None:
    first = engine.prefill_greedy(*padded(PROMPTS))
    seen = [first]
    for _ in range(4):
        seen.append(engine.decode_greedy(seen[-1]))
    assert engine.prefill_greedy(*padded(PROMPTS)) == first
    second = engine.decode_greedy(first)
    ahead = engine.decode_ahead(second, 3)
    assert [list(step) for step in zip(*ahead, strict=True)] == seen[2:]
    with pytest.raises(ValueError, match="the KV cache is full: max_length=12"):
        engine.decode_ahead(seen[-1], 4)


@pytest.mark.parametrize("kind", ["int4, fp16 cells", "fp16"])
def test_teacher_forcing_equals_float64(engine: GpuEngine, kind: str) -> None:
    logits = engine.forward_all(*padded(PROMPTS))
    assert logits.shape == (3, 5, CONFIG.vocab_size)
    for row, prompt in enumerate(PROMPTS):
        assert largest_error(logits[row, : len(prompt)], exact(kind, prompt)) <= LARGEST_ERROR
        assert not logits[row, len(prompt) :].any()
    followed = engine.decode(torch.tensor([4, 5, 6]))
    expected = [exact(kind, [*prompt, 4 + row])[-1] for row, prompt in enumerate(PROMPTS)]
    assert largest_error(followed, torch.stack(expected)) <= LARGEST_ERROR


@pytest.mark.parametrize("kind", ["int4, fp16 cells"])
def test_logits_that_are_not_finite_are_an_error(program: Emulation, kind: str) -> None:
    name = "model.norm.weight"
    spoilt = replace(WEIGHTS, tensors=WEIGHTS.tensors | {name: WEIGHTS.tensors[name] * 60_000})
    engine = engine_of(kind, EmulatedLauncher(program=program), spoilt)
    with pytest.raises(FloatingPointError, match=r"not finite: the arithmetic \(w4a16/sm_90a"):
        engine.generate_greedy(PROMPTS[:1], 2, None)


# A kernel, and two of its arguments that change places: most are of the same type.
SWAPPED = {
    "ids for the table": ("embed", 0, 1),
    "the vocabulary for the width": ("embed", 4, 5),
    "the stream for its norm": ("rms_norm", 0, 3),
    "what is added for the weight": ("rms_norm", 1, 2),
    "rows for the width": ("rms_norm", 7, 8),
    "outputs for inputs": ("w4a16_gemv", 6, 7),
    "rows for columns": ("rope_append", 5, 6),
    "heads for the heads of keys": ("rope_append", 8, 9),
    "rotations for cells": ("decode_attention", 1, 3),
    "starts for columns": ("decode_attention", 4, 5),
    "rows of the cache for its columns": ("decode_attention", 9, 12),
    "heads for the heads of keys, in a step": ("decode_attention", 10, 11),
    "status for the largest logit": ("argmax", 2, 3),
    "columns for counts": ("advance", 1, 2),
    "counts for who has finished": ("advance", 2, 3),
    "the limit for the end of sequence": ("advance", 8, 10),
}
SMALL = tiny_llama.weights_of(replace(CONFIG, layers=1), seed=9)


class Wrong(Exception):
    """An engine said something else than float64."""


@pytest.mark.parametrize("case", list(SWAPPED))
def test_swapped_arguments_are_caught(program: Emulation, case: str) -> None:
    kernel, first, second = SWAPPED[case]

    def spoil(name: str, arguments: list[Argument]) -> list[Argument]:
        if name == kernel:
            arguments[first], arguments[second] = arguments[second], arguments[first]
        return arguments

    with pytest.raises((EmulationError, FloatingPointError, Wrong)):
        check_answers(EmulatedLauncher(program=program, spoil=spoil))


def test_arguments_in_order_pass(program: Emulation) -> None:
    check_answers(EmulatedLauncher(program=program))


def check_answers(launcher: EmulatedLauncher) -> None:
    """Raise Wrong, or an error of its own, unless four tokens of two prompts are right."""
    prompts = PROMPTS[:2]
    engine = engine_of("int4, fp16 cells", launcher, SMALL)
    answers = [engine.prefill_greedy(*padded(prompts))]
    answers.append(engine.decode_greedy(answers[0]))
    ahead = engine.decode_ahead(answers[1], 2)
    said = [[*pair, *rest] for *pair, rest in zip(*answers, ahead, strict=True)]
    tensors = tiny_llama.rounded(SMALL, tiny_llama.quantized(SMALL))
    for prompt, answer in zip(prompts, said, strict=True):
        logits = tiny_llama.logits_of(SMALL.config, tensors, [*prompt, *answer[:-1]])
        best = logits[len(prompt) - 1 :]
        if answer != best.argmax(-1).tolist():
            raise Wrong(f"{answer} for {best.argmax(-1).tolist()}")
