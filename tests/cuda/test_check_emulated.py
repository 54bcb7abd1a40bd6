"""The stages that multiply and decode, on emulated kernels and small models: their own code."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda import paths  # noqa: E402
from edgebench_kernels.cuda.check import (  # noqa: E402
    bars,
    ceilings,
    contenders,
    decode_8b,
    decoding,
    events,
    random_model,
    timer,
    timing,
)
from edgebench_kernels.cuda.check.decode_8b import Fleet  # noqa: E402
from edgebench_kernels.cuda.check.decoding import Decoding  # noqa: E402
from edgebench_kernels.cuda.check.events import Failed, Log, Skipped  # noqa: E402
from edgebench_kernels.cuda.check.timer import Timed  # noqa: E402
from edgebench_kernels.cuda.check.worker import Request  # noqa: E402
from edgebench_kernels.cuda.engine_state import Room  # noqa: E402

from . import tiny_llama  # noqa: E402
from .emulated_launcher import Collector, EmulatedLauncher  # noqa: E402
from .emulation import Emulation  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.native, pytest.mark.slow]

SHAPES = {"o": (16, 128), "down": (24, 256)}
TOKENS = (1, 16)
KERNELS = (paths.GEMV, paths.GEMM)
L2_BYTES = 64
BY_ROW = contenders.ours_by_row(paths.A8_GEMM_TOKEN)
CONFIG = replace(
    tiny_llama.CONFIG, hidden_size=128, intermediate_size=128, layers=1, heads=8, vocab_size=40
)
ROOM = Room(max_batch=1, max_length=16)
FORMS = (random_model.INT4, random_model.FP16)


def contenders_here() -> list[contenders.Contender]:
    return [contenders.fp16(), *(contenders.ours(kernel) for kernel in KERNELS)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (contenders, timing):
        monkeypatch.setattr(room, "SHAPES", SHAPES)
    monkeypatch.setattr(timing, "TOKENS", TOKENS)
    monkeypatch.setattr(timing, "all_contenders", contenders_here)
    # Time is what is moved, and a start: nothing here measures.
    monkeypatch.setattr(timer, "sample_ns", lambda one, repeats: float(one.moved_bytes + 100))
    rounds = {"run": lambda: None, "products": 1}
    copy = Timed(**rounds, moved_bytes=1000)
    product = Timed(**rounds, operations=10**6)
    monkeypatch.setattr(ceilings, "copy", lambda device: copy)
    monkeypatch.setattr(ceilings, "product", lambda device: product)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Emulation:
    """Every kernel that the tests here launch."""
    collector = Collector()
    with pytest.MonkeyPatch.context() as patch:
        for room in (contenders, timing):
            patch.setattr(room, "SHAPES", SHAPES)
        for weights in weights_on(collector).values():
            for one in (*contenders_here(), BY_ROW):
                for m in TOKENS:
                    if one.is_applicable(collector.arch, m):
                        with contextlib.suppress(AssertionError):  # nothing is computed
                            contenders.cell(one, weights, m)
    fleet = fleet_on(collector)
    for form in FORMS:
        decode_8b._build(fleet, form)
        for length in (3, ROOM.max_length // 2):
            prompt = torch.zeros(1, length, dtype=torch.long)
            fleet.engines[form].prefill_greedy(prompt, [length])
            fleet.engines[form].decode(prompt[:, 0])
    return Emulation(tmp_path_factory.mktemp("check"), list(collector.variants))


def weights_on(launcher: Collector) -> dict[str, contenders.Weights]:
    return {name: contenders.Weights.of(name, launcher, L2_BYTES) for name in SHAPES}  # type: ignore[arg-type]


def fleet_on(launcher: Collector) -> Fleet:
    return Fleet(launcher, CONFIG, ROOM)


def request_of(tmp_path: Path, seconds: float = 1000.0) -> Request:
    return Request(work=tmp_path, until=time.monotonic() + seconds)


def layer_on(launcher: Collector) -> timing.Layer:
    return timing.Layer(launcher.arch, weights_on(launcher))


# ------------------------------------------------------------------------------------------ timing


def test_the_table_of_a_layer(program: Emulation, tmp_path: Path) -> None:
    layer, request = layer_on(EmulatedLauncher(program=program)), request_of(tmp_path)
    log = Log(tmp_path / "events")
    for one in contenders_here():
        data = timing._build(layer, one, request)
        assert data["largest_error"] < 2e-3
    log.item("table", lambda: timing._time(log, layer, torch.device("cpu"), request))
    [item] = events.read(tmp_path / "events")
    assert (item.status, item.text) == (events.PASSED, "")
    assert item.data["rounds"] == timing.ROUNDS
    ours, fp16 = layer.of(paths.GEMV, 1), layer.of(contenders.FP16, 1)
    expected = sum(c.timed.moved_bytes + 100 for c in fp16)
    expected /= sum(c.timed.moved_bytes + 100 for c in ours)
    assert item.data["quantities"][bars.ratio_name("w4a16", 1)] == pytest.approx(expected)
    assert item.data["quantities"][bars.ratio_name("w4a8", 1)] is None  # it was not there
    moved = sum(c.timed.moved_bytes for c in ours)
    share = 100 * moved / (moved + 200) / (1000 / 1100)
    assert item.data["quantities"][bars.COPY_SHARE] == pytest.approx(share)
    rows = item.data["tables"][0]["rows"]
    assert [row[:3] for row in rows] == [
        [1, contenders.FP16, ""],
        [1, paths.GEMV, "yes"],
        [1, paths.GEMM, ""],
        [16, contenders.FP16, ""],
        [16, paths.GEMV, "yes"],
        [16, paths.GEMM, ""],
    ]
    assert len(item.data["tables"][1]["rows"]) == 3 * len(SHAPES)


def test_weights_with_a_scale_a_row(program: Emulation) -> None:
    """Checked against their own truth, and multiplied by the kernel whose sums are integers."""
    launcher = EmulatedLauncher(program=program)
    weights = weights_on(launcher)["down"]
    cell = contenders.cell(BY_ROW, weights, 16)
    assert (cell.contender, cell.shape) == (f"{paths.A8_GEMM_TOKEN}, G = K", "down")
    assert weights.by_row().tensor.group == weights.shape[1] != weights.tensor.group
    assert 0 < cell.error < BY_ROW.tolerance
    macros = [dict(one.macros) for one in launcher.variants if one.kernel == "w4a8_gemm"]
    assert [one["EB_ROW_SCALE"] for one in macros] == [1]


def test_weights_rotate_past_the_cache() -> None:
    assert contenders.copies_past(60 << 20, 13 << 20) * (13 << 20) >= 4 * (60 << 20)
    assert contenders.copies_past(1, 1 << 30) == 2
    assert contenders.copies_past(1 << 30, 1) == contenders.MOST_COPIES


def test_a_wrong_kernel_is_not_timed(program: Emulation, tmp_path: Path) -> None:
    def spoil(name: str, arguments: list) -> list:
        if name == paths.GEMV:
            arguments[0] = arguments[0] * 1.01
        return arguments

    layer = layer_on(EmulatedLauncher(program=program, spoil=spoil))
    with pytest.raises(Failed, match="w4a16_gemv o M=1: relative error"):
        timing._build(layer, contenders.ours(paths.GEMV), request_of(tmp_path))
    assert layer.cells == []


def test_outputs_that_are_not_written_are_wrong(tmp_path: Path) -> None:
    layer = layer_on(Collector())
    with pytest.raises(Failed, match="relative error inf"):
        timing._build(layer, contenders.ours(paths.GEMV), request_of(tmp_path))


def test_what_an_architecture_lacks_is_skipped(tmp_path: Path) -> None:
    layer = layer_on(Collector(arch="sm_87"))
    with pytest.raises(Skipped, match="not for sm_87"):
        timing._build(layer, contenders.ours(paths.WGMMA), request_of(tmp_path))


def test_too_few_rounds_are_a_failure_with_what_there_is(
    program: Emulation, tmp_path: Path
) -> None:
    layer, request = layer_on(EmulatedLauncher(program=program)), request_of(tmp_path)
    timing._build(layer, contenders.fp16(), request)
    over = request_of(tmp_path, seconds=0.0)
    with pytest.raises(Failed, match="0 rounds in the time there was") as failed:
        timing._time(Log(tmp_path / "e"), layer, torch.device("cpu"), over)
    assert failed.value.data["tables"]


def test_rounds_take_everybody_once_in_changing_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    things = {name: Timed(run=lambda: None, products=2) for name in "abcdef"}
    names = {id(one): name for name, one in things.items()}

    def sample(one: Timed, repeats: int) -> float:
        seen.append(names[id(one)])
        return 1.0

    monkeypatch.setattr(timer, "sample_ns", sample)
    assert timer.sample_rounds(things, 5, lambda: True) == 5
    rounds = [seen[i : i + 6] for i in range(6, 36, 6)]
    assert all(sorted(one) == list("abcdef") for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert all(len(one.times_ns) == 5 for one in things.values())


# ---------------------------------------------------------------------------------------- decoding


def test_a_random_model_decodes_alike_in_both_forms(program: Emulation) -> None:
    fleet = fleet_on(EmulatedLauncher(program=program))
    for form in FORMS:
        told = decode_8b._build(fleet, form)
        assert told["weight_bytes"] > 0
    agreement = decode_8b._agreement(fleet)
    assert set(agreement) == {"fp16: prefill", "fp16: step"}
    assert 0 < max(agreement.values()) < 0.01


def test_torchs_int4_decodes_in_the_same_engine(
    program: Emulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for the one operation of torch's that only a GPU has."""

    class Dense:
        def __init__(self, weight: torch.Tensor) -> None:
            self.weight = weight
            self.size_bytes = weight.nbytes

        def multiply(self, x: torch.Tensor) -> torch.Tensor:
            return (x.double() @ self.weight.double().T).bfloat16()

    monkeypatch.setattr(random_model, "is_high_first", lambda device: True)
    monkeypatch.setattr(
        random_model,
        "pack_torch",
        lambda tensor, device, *, is_high_first: Dense(random_model.dense(tensor, device)),
    )
    fleet = fleet_on(EmulatedLauncher(program=program))
    for form in decode_8b.FORMS:
        decode_8b._build(fleet, form)
    errors = decode_8b._agreement(fleet)
    assert {"torch int4: prefill", "torch int4: step"} <= set(errors)
    assert 0 < errors["torch int4: step"] < 0.1


def test_other_weights_are_found(program: Emulation, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = fleet_on(EmulatedLauncher(program=program))
    decode_8b._build(fleet, random_model.INT4)
    linears = fleet.linears
    assert linears is not None
    other = random_model.make(fleet.launcher, CONFIG, (random_model.FP16,))
    spoilt = other.forms[random_model.FP16]["layers.0.o"]
    spoilt._weight.mul_(-1)  # type: ignore[attr-defined]
    linears.forms.update(other.forms)
    engine = random_model.engine(fleet.launcher, CONFIG, linears, random_model.FP16, ROOM)
    fleet.engines[random_model.FP16] = engine
    with pytest.raises(Failed, match="fp16: logits differ by"):
        decode_8b._agreement(fleet)


def test_speed_has_a_row_for_each_engine(
    program: Emulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_8b, "STEPS", 1)
    monkeypatch.setattr(decode_8b, "ROUNDS", 1)
    monkeypatch.setattr(decode_8b, "PROMPT", 3)
    fleet = fleet_on(EmulatedLauncher(program=program))
    for form in FORMS:
        decode_8b._build(fleet, form)
    data = decode_8b._speed(fleet, request_of(tmp_path), 1, 3)
    assert [row[0] for row in data["tables"][0]["rows"]] == list(FORMS)
    assert data["quantities"][bars.DECODE_RATE] > 0
    assert data["quantities"][bars.DECODE_RATIO] is None  # torch's INT4 was not there


def test_torchs_conversions_are_taken_away_before_its_speed_counts() -> None:
    found = {
        random_model.INT4: Decoding(looked_s=[0.002, 0.002], ahead_s=[0.001, 0.001]),
        random_model.TORCH: Decoding(looked_s=[0.005, 0.005]),
    }
    quantities = decode_8b.quantities(found, converting_s=0.001)
    assert quantities[bars.DECODE_RATE] == pytest.approx(500)
    assert quantities[bars.DECODE_RATIO] == pytest.approx(2.0)


def test_rounds_of_decoding_end_with_the_time() -> None:
    class Engine:
        def prefill_greedy(self, ids: object, lengths: object) -> list[int]:
            return [1]

        def decode_greedy(self, tokens: object) -> list[int]:
            return [1]

        def decode_ahead(self, tokens: object, steps: int) -> list[list[int]]:
            return [[1] * steps]

    left = iter([True, True, True, False])
    prompts = decoding.random_prompts(1, 3, 10)
    found = decoding.decode_rounds({"a": Engine()}, prompts, 2, 9, lambda: next(left))
    assert len(found["a"].looked_s) == 2  # the first round captures, and does not count
    assert torch.equal(prompts, decoding.random_prompts(1, 3, 10))
