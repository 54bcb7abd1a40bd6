"""The reference's linear in each arithmetic, and the probe that chooses among them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.engine import (  # noqa: E402
    Fp16Linear,
    RegimeChoice,
    build_fp16,
    load_reference,
    probe,
    regimes,
)
from edgebench_kernels.engine.arithmetic import regime_of  # noqa: E402

pytestmark = pytest.mark.torch

MIXED = RegimeChoice(single="fp16", few="bf16", many="fp32")


def linear_and_truth(rows: int):
    generator = torch.Generator().manual_seed(3)
    parts = [torch.randn(n, 48, generator=generator).half() for n in (5, 32, 1)]
    x = torch.randn(rows, 48, generator=generator)
    return Fp16Linear(parts, MIXED), x, x.double() @ torch.cat(parts).double().T


# Unit roundoff u of the narrowest format in the product: inputs (and for bf16 the weights) are
# rounded once each and the result once, so the error is below 3 u |x| |w| in norm; fp32 adds K u.
@pytest.mark.parametrize(
    ("rows", "bound"), [(1, 3 * 2**-11), (2, 3 * 2**-8), (16, 3 * 2**-8), (17, 50 * 2**-24)]
)
def test_each_regime_is_as_exact_as_its_arithmetic(rows: int, bound: float) -> None:
    linear, x, truth = linear_and_truth(rows)
    y = linear(x)
    assert y.dtype == torch.float32
    assert y.shape == (rows, 38)
    assert (y.double() - truth).norm() <= bound * truth.norm()


def test_leading_dimensions_are_kept() -> None:
    linear, x, truth = linear_and_truth(6)
    y = linear(x.view(2, 3, 48))
    assert y.shape == (2, 3, 38)
    assert (y.double().view(6, 38) - truth).norm() <= 3 * 2**-8 * truth.norm()


def test_large_weights_on_huge_pages_are_the_same_numbers() -> None:
    parts = [torch.randn(700, 1600).half(), torch.randn(20, 1600).half()]  # over 2 MiB
    y = Fp16Linear(parts, RegimeChoice.uniform("fp16"))(torch.eye(1600)[3][None])
    assert torch.equal(y[0], torch.cat(parts)[:, 3].float())


def test_copies_are_made_only_for_what_runs() -> None:
    linear, x, _ = linear_and_truth(1)
    assert list(linear._products) == []
    linear(x)
    assert list(linear._products) == ["fp16"]


def test_sizes_follow_the_arithmetic() -> None:
    linear, _, _ = linear_and_truth(1)
    assert [linear.weight_bytes_at(rows) for rows in (1, 8, 64)] == [38 * 48 * n for n in (2, 2, 4)]
    assert linear.describe() == "fp16@1 bf16@2-16 fp32@>16"


def test_parts_must_be_fp16_of_one_width() -> None:
    with pytest.raises(ValueError, match="same K"):
        Fp16Linear([torch.zeros(2, 4).half(), torch.zeros(2, 5).half()], MIXED)
    with pytest.raises(ValueError, match="must be fp16"):
        Fp16Linear([torch.zeros(2, 4)], MIXED)


def test_engine_states_what_it_streams(tied) -> None:
    weights = load_reference(tied)
    engine = build_fp16(weights, MIXED, max_batch=32)
    size = sum(weight.numel() for weight in weights.linears().values())
    assert engine.operations_per_token == 2 * size
    assert engine.weight_bytes == 2 * size + 2 * 64
    assert engine.weight_bytes_at(32) == 4 * size + 32 * 2 * 64
    assert engine.describe() == MIXED.describe()


def test_narrow_arithmetic_stays_near_fp32(tied) -> None:
    weights = load_reference(tied)
    ids, lengths = torch.arange(40).view(2, 20), [20, 20]
    engines = {
        name: build_fp16(weights, RegimeChoice.uniform(name), max_batch=2)
        for name in ("fp16", "bf16", "fp32")
    }
    logits = {name: engine.forward_all(ids, lengths) for name, engine in engines.items()}
    scale = logits["fp32"].norm()
    # Three layers of rounding at 2^-11 and 2^-8, uncorrelated: far below 10 units in norm.
    assert (logits["fp16"] - logits["fp32"]).norm() <= 10 * 2**-11 * scale
    assert (logits["bf16"] - logits["fp32"]).norm() <= 10 * 2**-8 * scale


def test_probe_times_every_arithmetic_in_every_regime(tied) -> None:
    choice = probe(load_reference(tied))
    assert {(t.regime, t.arithmetic) for t in choice.timings} == {
        (regime, name) for regime in ("1", "2-16", ">16") for name in ("fp16", "bf16", "fp32")
    }
    assert all(regime_of(timing.rows) == timing.regime for timing in choice.timings)
    for rows, regime in ((1, "1"), (9, "2-16"), (40, ">16")):
        table = choice.timings_ns[regime]
        assert choice.for_rows(rows) == min(table, key=table.__getitem__)


def test_probe_takes_the_fastest_and_drops_the_slow(tied, monkeypatch) -> None:
    now = [0]
    cost = {"fp16": 60_000_000, "bf16": 1_000_000, "fp32": 3_000_000}
    calls = dict.fromkeys(cost, 0)

    def multiply(linear, x):
        name = linear.regimes.single
        calls[name] += 1
        now[0] += cost[name]
        return x

    monkeypatch.setattr(regimes.time, "perf_counter_ns", lambda: now[0])
    monkeypatch.setattr(Fp16Linear, "__call__", multiply)
    choice = probe(load_reference(tied))
    assert choice.describe() == "bf16@1 bf16@2-16 bf16@>16"
    # 13 linears: fp16 is cut after the first and dropped at its second visit.
    assert calls["fp16"] == 3 * 2
    assert {t.arithmetic for t in choice.timings if t.is_extrapolated} == {"fp16", "fp32"}
    assert choice.unsettled == ()
    assert choice.timings_ns["1"]["fp16"] == pytest.approx(60_000_000 * 13, rel=1)


def test_a_machine_too_busy_to_choose_is_noticed(tied, monkeypatch) -> None:
    now = [0]

    def multiply(linear, x):
        now[0] += 2 * regimes.BUDGET_NS
        return x

    monkeypatch.setattr(regimes.time, "perf_counter_ns", lambda: now[0])
    monkeypatch.setattr(Fp16Linear, "__call__", multiply)
    assert probe(load_reference(tied)).unsettled == ("1", "2-16", ">16")
    assert RegimeChoice.uniform("fp16").unsettled == ()
