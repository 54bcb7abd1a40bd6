"""A GPU's ceilings: what is computed, and what is divided by the time it took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

torch = pytest.importorskip("torch")

from edgebench_kernels.cuda import ceilings  # noqa: E402
from edgebench_kernels.cuda.ceilings import CEILINGS, Ceilings  # noqa: E402

pytestmark = pytest.mark.torch

EDGE, BUFFER_BYTES = 32, 4096


@dataclass
class FakeTimer:
    """Runs what it is given once; one call takes `once_s`, the first one ten times as long."""

    once_s: float
    repeats: list[int] = field(default_factory=list)

    def __call__(self, run: Callable[[], object], repeats: int) -> float:
        run()
        self.repeats.append(repeats)
        return self.once_s * repeats * (10 if len(self.repeats) == 1 else 1)


def measured(ceiling: str, timer: FakeTimer):
    gauge = Ceilings(torch.device("cpu"), timer, edge=EDGE, buffer_bytes=BUFFER_BYTES)
    return gauge.measure(ceiling, 3)


@pytest.mark.parametrize(
    ("ceiling", "amount", "instruction"),
    [
        ("read_bandwidth", 2 * BUFFER_BYTES, "torch copy, read + write"),
        ("fp16", 2 * EDGE**3, "cublas fp16"),
        ("int8", 2 * EDGE**3, "cublas int8"),
    ],
)
def test_a_ceiling_is_an_amount_over_a_time(ceiling: str, amount: int, instruction: str) -> None:
    timer = FakeTimer(0.01)
    sample = measured(ceiling, timer)
    assert sample.value == pytest.approx(amount / 0.01)
    assert (sample.ceiling, sample.instruction, sample.threads) == (ceiling, instruction, 3)
    assert timer.repeats == [1, 1, 5], "0.05 s, by the second call: the first one warms up"


def test_repeats_are_bounded() -> None:
    fast, slow = FakeTimer(1e-7), FakeTimer(2.0)
    for timer, repeats in ((fast, ceilings.MOST_REPEATS), (slow, 1)):
        measured("fp16", timer)
        assert timer.repeats[-1] == repeats


def test_every_ceiling_has_a_name() -> None:
    assert [measured(name, FakeTimer(0.01)).ceiling for name in CEILINGS] == list(CEILINGS)
    with pytest.raises(ValueError, match="must be one of read_bandwidth, fp16, int8, got 'fp8'"):
        measured("fp8", FakeTimer(0.01))
