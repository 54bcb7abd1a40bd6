"""The probe that picks the fp16 reference's arithmetic per regime on this machine.

On CPUs torch's fp16 product is up to 10x slower than its bf16 one at large batch, and a plain bf16
one up to 2x slower than fp16 at batch 1. The reference takes the fastest of each regime, so that no
speed-up of INT4 is owed to a slow reference.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from edgebench_kernels.engine.arithmetic import (
    Arithmetic,
    Regime,
    RegimeChoice,
    RegimeTiming,
    regime_of,
)
from edgebench_kernels.engine.fuse import fused_linears
from edgebench_kernels.engine.linear_fp16 import Fp16Linear
from edgebench_kernels.engine.weights import LlamaWeights, linear_shapes

__all__ = ["RegimeChoice", "probe"]

ARITHMETICS: tuple[Arithmetic, ...] = ("bf16", "fp32", "fp16")
"""Probe order: fp16 last, its slow regimes are the ones that the early cut is for."""
PROBED_ROWS = (1, 8, 64)
"""One product of each regime."""
ROTATED_BYTES = 128 << 20
"""fp16 bytes of layers that a pass walks through, so that each comes from memory: 4x a last-level
cache of 32 MiB. A smaller model is timed whole, resident as it really is."""
BUDGET_NS = 300_000_000
"""Time for one regime: after it no new round begins, and a walk is cut."""
ROUNDS = 8
CUT_RATIO = 2.0
"""A walk is cut, and its arithmetic dropped, at this many times the fastest."""
NEVER_CUT_NS = 5_000_000
"""Shorter walks run whole: a scheduler's pause would look like a slow arithmetic."""


@dataclass(frozen=True, slots=True)
class _Walk:
    """One pass through the timed linears, extrapolated to the whole model's weights."""

    time_ns: float
    is_cut: bool


@torch.inference_mode()
def probe(weights: LlamaWeights) -> RegimeChoice:
    """Time the model's own linears in fp16, bf16 and fp32 at 1, 8 and 64 rows; take the fastest.

    Whole layers are walked in execution order, casts of the activations included, the arithmetics
    interleaved. About a second for 300 M weights (copies of at most 4 x ROTATED_BYTES are made and
    dropped); on a busy machine the budget cuts walks short instead of letting them take for ever.
    """
    total = sum(rows * width for rows, width in linear_shapes(weights.config).values())
    layers = _first_layers(weights)
    candidates = {name: _prepared(layers, name) for name in ARITHMETICS}
    timings: list[RegimeTiming] = []
    fastest: dict[Regime, Arithmetic] = {}
    for rows in PROBED_ROWS:
        race = _race(candidates, rows, total)
        regime = regime_of(rows)
        fastest[regime] = min(race, key=lambda name: race[name].time_ns)
        timings += [
            RegimeTiming(
                regime=regime,
                arithmetic=name,
                rows=rows,
                time_ns=round(walk.time_ns),
                is_extrapolated=walk.is_cut,
            )
            for name, walk in race.items()
        ]
    return RegimeChoice(
        single=fastest["1"],
        few=fastest["2-16"],
        many=fastest[">16"],
        timings=tuple(timings),
    )


def _first_layers(weights: LlamaWeights) -> list[list[Tensor]]:
    """The parts of each fused linear, from the first layer on until they outgrow the cache."""
    layers: list[list[Tensor]] = []
    size_bytes = 0
    for names in fused_linears(weights.config).values():
        parts = [weights.linear(name) for name in names]
        layers.append(parts)
        size_bytes += sum(part.nbytes for part in parts)
        if size_bytes >= ROTATED_BYTES:
            break
    return layers


def _prepared(layers: list[list[Tensor]], arithmetic: Arithmetic) -> list[Fp16Linear]:
    linears = [Fp16Linear(parts, RegimeChoice.uniform(arithmetic)) for parts in layers]
    for linear in linears:
        linear.product(arithmetic)
    return linears


def _race(
    candidates: dict[Arithmetic, list[Fp16Linear]], rows: int, total: int
) -> dict[Arithmetic, _Walk]:
    """The fastest walk of each arithmetic; what disturbs one (another process) only slows it."""
    generator = torch.Generator().manual_seed(rows)
    widths = sorted({linear.shape[1] for linear in candidates["fp16"]})
    inputs = {width: torch.randn(rows, width, generator=generator) for width in widths}
    deadline = time.perf_counter_ns() + BUDGET_NS
    best: dict[Arithmetic, _Walk] = {}
    alive = list(candidates)
    for turn in range(ROUNDS):
        for name in list(alive):
            fastest = min((walk.time_ns for walk in best.values()), default=math.inf)
            ratio = CUT_RATIO if turn else 2 * CUT_RATIO  # at first oneDNN builds its code
            # The second walk in a row finds a small model in the cache, as decoding does.
            for _ in range(2):
                walk = _walk(candidates[name], inputs, total, ratio * fastest, deadline)
                best[name] = min(walk, best.get(name, walk), key=lambda one: one.time_ns)
                if walk.is_cut:
                    break
            # Not on the first visit: one pause of the scheduler would do it.
            if turn and best[name].time_ns > CUT_RATIO * fastest:
                alive.remove(name)
        if time.perf_counter_ns() > deadline:
            break
    return best


def _walk(
    linears: list[Fp16Linear],
    inputs: dict[int, Tensor],
    total: int,
    limit_ns: float,
    deadline: int,
) -> _Walk:
    """Multiply by each linear in order until time is up; limit_ns is for the whole model."""
    begin = time.perf_counter_ns()
    done, estimate = 0, 0.0
    for linear in linears:
        linear(inputs[linear.shape[1]])
        done += math.prod(linear.shape)
        now = time.perf_counter_ns()
        estimate = (now - begin) * total / done
        if now - begin > NEVER_CUT_NS and (estimate > limit_ns or now > deadline):
            return _Walk(estimate, linear is not linears[-1])
    return _Walk(estimate, False)
