"""What the GPU kernels are asked to reach, and whether a check found it reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STATED_FOR = "NVIDIA H200"
"""The GPU that the bars were set for; on another one the verdicts are shown, and say so."""

REACHED, MISSED, UNMEASURED = "reached", "missed", "not measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """`quantity` must be at least `least`. Stages name quantities as they measure them."""

    text: str
    quantity: str
    least: float
    unit: str = "x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A bar with what was measured."""

    bar: Bar
    value: float | None
    verdict: str


def ratio_name(path: str, tokens: int) -> str:
    """The quantity: torch's fp16 time of the four linears over ours."""
    return f"{path} over fp16, M={tokens}"


COPY_SHARE = "w4a16 of copy bandwidth, M=1"
DECODE_RATE = "8B tokens/s, batch 1"
DECODE_RATIO = "8B over torch int4, batch 1"
ACCURACY = "assistant@1b int4 of fp16"

BARS = (
    Bar(text="w4a16, M = 1, sum of four", quantity=ratio_name("w4a16", 1), least=2.9),
    Bar(text="w4a16, M = 16, sum of four", quantity=ratio_name("w4a16", 16), least=2.8),
    Bar(text="w4a16, M = 64, sum of four", quantity=ratio_name("w4a16", 64), least=2.0),
    Bar(text="w4a16, M = 256, sum of four", quantity=ratio_name("w4a16", 256), least=0.88),
    Bar(text="w4a16, M = 2048, sum of four", quantity=ratio_name("w4a16", 2048), least=0.93),
    Bar(text="w4a8, M = 256, sum of four", quantity=ratio_name("w4a8", 256), least=1.4),
    Bar(text="w4a8, M = 2048, sum of four", quantity=ratio_name("w4a8", 2048), least=1.4),
    Bar(text="w4a16, M = 1, of copy bandwidth", quantity=COPY_SHARE, least=65.0, unit="%"),
    Bar(text="8B decode, batch 1", quantity=DECODE_RATE, least=480.0, unit="tokens/s"),
    Bar(text="8B decode over torch's int4", quantity=DECODE_RATIO, least=1.9),
    Bar(text="assistant@1b answers, int4 of fp16", quantity=ACCURACY, least=99.0, unit="%"),
)


def judge(quantities: Mapping[str, float | None]) -> list[Verdict]:
    """Every bar, in the table's order."""
    return [_judge(bar, quantities.get(bar.quantity)) for bar in BARS]


def _judge(bar: Bar, value: float | None) -> Verdict:
    if value is None:
        return Verdict(bar=bar, value=None, verdict=UNMEASURED)
    verdict = REACHED if value >= bar.least else MISSED
    return Verdict(bar=bar, value=value, verdict=verdict)
