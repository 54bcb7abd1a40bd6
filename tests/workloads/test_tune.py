"""The tuner's model is transformers' model, and its search ends inside the window."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch")

from edgebench_workloads.streams import SCHEMES, Examples, Streams  # noqa: E402
from edgebench_workloads.task import NllWindow  # noqa: E402
from edgebench_workloads.tune import Bench, increase, search_noise  # noqa: E402
from edgebench_workloads.widen import WidenPlan  # noqa: E402

PLAN = WidenPlan(replicas=4, noise=0.5, outlier_factor=8, outlier_channels=2, seed=1)
LENGTHS = (7, 12, 3)
WINDOW = NllWindow(minimum=0.03, maximum=0.08)


@pytest.fixture(scope="module")
def examples() -> Examples:
    row = torch.tensor([i for i, length in enumerate(LENGTHS) for _ in range(length)])
    position = torch.tensor([t for length in LENGTHS for t in range(length)])
    ids = torch.arange(len(row)) * 7 % 40
    target = torch.where(position >= 2, ids * 3 % 40, -1)
    return Examples(ids=ids, row=row, position=position, target=target)


def test_nll_is_that_of_transformers(tiny_directory: Path, examples: Examples) -> None:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(tiny_directory, dtype=torch.float32).eval()
    padded = torch.zeros(examples.shape, dtype=torch.int64)
    padded[examples.row, examples.position] = examples.ids
    with torch.no_grad():
        logits = model(padded).logits[examples.row, examples.position]
    asked = examples.target >= 0
    expected = torch.nn.functional.cross_entropy(
        logits[asked], examples.target[asked], reduction="none"
    )
    found = _nll(tiny_directory, None, examples)["fp16"]
    assert (found - expected).abs().max() < 1e-5


def test_widening_keeps_the_nll_and_rounding_does_not(
    tiny_directory: Path, examples: Examples
) -> None:
    small = _nll(tiny_directory, None, examples)["fp16"]
    wide = _nll(tiny_directory, PLAN, examples)
    off = {name: (nats - small).abs().mean() for name, nats in wide.items()}
    assert off["fp16"] < 0.01
    assert off["fp16"] < off["int4"] < off["int3"]
    assert off["w4a8"] != off["int4"]


def _nll(directory: Path, plan: WidenPlan | None, at: Examples) -> dict[str, torch.Tensor]:
    asked = at.target >= 0
    schemes = ["fp16"] if plan is None else list(SCHEMES)
    found = Streams(directory, plan, schemes).log_probabilities(at)
    return {key: -log[range(len(log)), at.target[asked]] for key, log in found.items()}


def test_increase_has_the_closed_form() -> None:
    # Two pairs of one token each: nats 1, 3 against 2, 6 is twice as much in both, so no spread.
    base, row = np.array([1.0, 3.0]), np.array([0, 1])
    assert increase(base, np.array([2.0, 6.0]), row) == (1.0, 0.0)
    # Ratio 1.25: residuals 2 - 1.25 and 3 - 3.75, deviation 0.75 sqrt 2, over sum 4, times sqrt 2.
    found, error = increase(base, np.array([2.0, 3.0]), row)
    assert (found, error) == (0.25, pytest.approx(0.75 * math.sqrt(2) * math.sqrt(2) / 4))


def test_cost_has_the_closed_form(tiny_directory: Path) -> None:
    # p = (1/2, 1/2), q = (1/4, 3/4): KL = ln 2 - ln 3 / 2, H = ln 2; the calls are tokens 0 and 1.
    at = Examples(
        ids=torch.zeros(2), row=torch.tensor([0, 1]), position=torch.zeros(2),
        target=torch.tensor([0, 1]),
    )  # fmt: skip
    log_p = torch.full((2, 2), 0.5, dtype=torch.float64).log()
    log_q = torch.tensor([[0.25, 0.75]] * 2, dtype=torch.float64).log()
    bench = Bench(directory=tiny_directory, plan=PLAN, examples=at, log_p=log_p)
    cost = bench.cost(log_q)
    expected = (math.log(2) - math.log(3) / 2) / math.log(2)
    assert (cost.expected, cost.expected_error) == (pytest.approx(expected), pytest.approx(0))
    assert cost.seen == pytest.approx(expected)  # both tokens once: the sample is the expectation
    assert cost.nll == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)
    assert bench.cost(log_p).expected == 0


@pytest.mark.parametrize("start", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("power", [1.5, 3.0, 5.0])
def test_search_ends_in_the_window(start: float, power: float) -> None:
    calls: list[float] = []

    def increase_at(noise: float) -> float:
        calls.append(noise)
        return 0.05 * (noise / 0.6) ** power

    best = search_noise(increase_at, WINDOW, start, 8)
    assert WINDOW.holds(increase_at(best))
    assert len(calls) <= 7


def test_search_survives_measurements_below_zero() -> None:
    assert 0.3 <= search_noise(lambda c: -0.001 if c < 0.3 else 0.05, WINDOW, 0.1, 6) <= 0.6


def test_search_stops_when_it_has_tried_enough() -> None:
    assert search_noise(lambda c: 9.0, WINDOW, 0.8, 3) == 0.8
