"""Finds the noise c at which round-to-nearest hurts a widened model as much as it hurts real ones.

Run `python -m edgebench_workloads.tune MODEL_DIRECTORY --variant 300m --report tune.json`. For each
c tried it widens the model in memory, layer by layer, quantizes every linear layer (`lm_head` too)
in groups of 128, and measures the calls' teacher-forced negative log-likelihood: nats per call
token, end of sequence included, over calibration pairs. It never sees the scored set, and writes
nothing but the report; put the c it prints into `task.toml`, then run `pin`.

A model that is right 99 times in 100 owes its NLL to a handful of tokens, so the increase seen on
given calls is chance: a rounding that softens one wrong answer "improves" it. The windows are held
against the expected increase, over all calls that the fp16 model p might give: KL(p||q) / H(p) for
the rounded model q. The increase on the given calls is shown beside it, each with its error.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from edgebench_workloads.assistant.dataset import Pair, calibration_pairs, held_out
from edgebench_workloads.assistant.tokenizer import call_ids, load_tokenizer, prompt_ids
from edgebench_workloads.catalog import find
from edgebench_workloads.streams import SCHEMES, Examples, Streams
from edgebench_workloads.task import NllWindow
from edgebench_workloads.widen import WidenPlan

LARGEST_STEP = 2.0  # c changes by at most this factor from one trial to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a rounding costs in NLL: relative increases with their standard errors over pairs."""

    nll: float  # nats per token of the given calls
    seen: float
    seen_error: float
    expected: float  # KL(p||q) / H(p)
    expected_error: float

    def __str__(self) -> str:
        expected = f"{self.expected:+.1%} ± {self.expected_error:.1%}"
        return f"{expected} (seen {self.seen:+.1%} ± {self.seen_error:.1%}, nll {self.nll:.5f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One plan and what each scheme costs on the model that it makes."""

    noise: float
    outlier_factor: int
    costs: dict[str, Cost]
    seconds: float

    def __str__(self) -> str:
        costs = "  ".join(f"{key} {cost}" for key, cost in self.costs.items())
        return f"c={self.noise:g} f={self.outlier_factor}  {costs}  {self.seconds} s"


def tuning_pairs(size: int) -> list[Pair]:
    """The calibration pairs, then validation pairs where more are asked for; never scored ones."""
    pairs = calibration_pairs()[:size]
    return pairs + (held_out("validation", size - len(pairs)) if size > len(pairs) else [])


def encode(directory: Path, pairs: Sequence[Pair]) -> Examples:
    """Pairs as a model sees them while it is taught."""
    tokenizer = load_tokenizer(directory)
    columns: tuple[list[int], ...] = ([], [], [], [])
    for row, pair in enumerate(pairs):
        prompt, call = prompt_ids(tokenizer, pair.command), call_ids(tokenizer, pair.call)
        ids = (prompt + call)[:-1]
        columns[0].extend(ids)
        columns[1].extend([row] * len(ids))
        columns[2].extend(range(len(ids)))
        columns[3].extend([-1] * (len(prompt) - 1) + call)
    ids_, row_, position, target = map(torch.tensor, columns)
    return Examples(ids=ids_, row=row_, position=position, target=target)


def increase(
    base: npt.NDArray[np.float64], found: npt.NDArray[np.float64], row: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Relative increase of a sum over tokens, and its standard error over the pairs (rows)."""
    ratio = found.sum() / base.sum()
    own = np.bincount(row, weights=base)
    residual = np.bincount(row, weights=found) - ratio * own  # delta method for a ratio
    return float(ratio - 1), float(residual.std(ddof=1) * math.sqrt(len(own)) / own.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every trial shares: the small model, the pairs, and its answers on them."""

    directory: Path
    plan: WidenPlan
    examples: Examples
    log_p: torch.Tensor  # of the small model, float64 [call tokens, V]

    def cost(self, log_q: torch.Tensor) -> Cost:
        """What a model that answers q costs."""
        asked = self.examples.target >= 0
        row, wanted = self.examples.row[asked].numpy(), self.examples.target[asked, None]
        p = self.log_p.exp()
        entropy, cross = (-(p * log).sum(1).numpy() for log in (self.log_p, log_q))
        base, found = (-log.gather(1, wanted)[:, 0].numpy() for log in (self.log_p, log_q))
        seen, seen_error = increase(base, found, row)
        expected, expected_error = increase(entropy, cross, row)
        return Cost(
            nll=float(found.mean()),
            seen=seen,
            seen_error=seen_error,
            expected=expected,
            expected_error=expected_error,
        )

    def trial(self, noise: float, schemes: Sequence[str]) -> Trial:
        """Measure one c and print its line."""
        start = time.monotonic()
        plan = replace(self.plan, noise=noise)
        found = Streams(self.directory, plan, schemes).log_probabilities(self.examples)
        trial = Trial(
            noise=noise,
            outlier_factor=plan.outlier_factor,
            costs={key: self.cost(log_q) for key, log_q in found.items()},
            seconds=round(time.monotonic() - start, 1),
        )
        print(trial, flush=True)
        return trial


def search_noise(
    increase_at: Callable[[float], float], window: NllWindow, start: float, most: int
) -> float:
    """The c, of at most `most` tried, whose increase is nearest the middle of the window.

    A secant search on the logarithms; ends once the increase lies in the middle half.
    """
    ceiling = window.maximum if window.maximum is not None else 2 * window.minimum
    target, quarter = (window.minimum + ceiling) / 2, (ceiling - window.minimum) / 4
    noise, slope = start, 3.0  # the increase grows about like c^3 near the target
    tried: list[tuple[float, float]] = []
    for _ in range(most):
        tried.append((noise, increase_at(noise)))
        last = tried[-1][1]
        if abs(last - target) <= quarter:
            break
        if len(tried) > 1:
            slope = _slope(tried[-2], tried[-1], slope)
        step = (target / max(last, 1e-4)) ** (1 / slope)
        noise = round(noise * min(max(step, 1 / LARGEST_STEP), LARGEST_STEP), 3)
    return min(tried, key=lambda pair: abs(pair[1] - target))[0]


def main(arguments: list[str] | None = None) -> int:
    """Search, confirm with every scheme, report; returns 1 where a window is missed."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    variant = find(f"assistant@{options.variant}").variant
    assert variant is not None
    plan = WidenPlan(
        replicas=options.replicas or variant.replicas,
        noise=variant.noise,
        outlier_factor=options.outlier_factor or variant.outlier_factor,
        outlier_channels=variant.outlier_channels,
        seed=variant.seed,
    )
    examples = encode(options.model, tuning_pairs(options.pairs))
    small = Streams(options.model, None, ["fp16"]).log_probabilities(examples)["fp16"]
    bench = Bench(directory=options.model, plan=plan, examples=examples, log_p=small)
    small_nll = bench.cost(small).nll
    print(f"small fp16 model: {small_nll:.5f} nats per call token", flush=True)
    trials: list[Trial] = []

    def increase_at(noise: float) -> float:
        trials.append(bench.trial(noise, ["int4"]))
        return trials[-1].costs["int4"].expected

    start = options.noise or variant.noise
    noise = search_noise(increase_at, variant.nll_increase.int4_g128, start, options.trials)
    trials.append(final := bench.trial(noise, list(SCHEMES)))
    met = {
        "int4": variant.nll_increase.int4_g128.holds(final.costs["int4"].expected),
        "int3": variant.nll_increase.int3_g128.holds(final.costs["int3"].expected),
    }
    print(f"noise = {final.noise}, outlier_factor = {final.outlier_factor}: windows met {met}")
    report: dict[str, Any] = {
        "variant": options.variant,
        "plan": asdict(replace(plan, noise=final.noise)),
        "pairs": options.pairs,
        "small_nll": small_nll,
        "windows_met": met,
        "trials": [asdict(trial) for trial in trials],
    }
    options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(met.values()) else 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="the small model's Hugging Face directory")
    parser.add_argument("--variant", default="300m", help="whose windows and start values to take")
    parser.add_argument("--report", type=Path, required=True, help="where the JSON report goes")
    parser.add_argument("--pairs", type=int, default=256, help="calibration pairs")
    parser.add_argument("--trials", type=int, default=4, help="most values of c to try")
    parser.add_argument("--noise", type=float, help="first c; default: task.toml's")
    parser.add_argument("--outlier-factor", type=int, help="default: task.toml's")
    parser.add_argument("--replicas", type=int, help="default: task.toml's; fewer is quicker")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


def _slope(before: tuple[float, float], after: tuple[float, float], fallback: float) -> float:
    """d log(increase) / d log(c), kept within what a search survives."""
    if before[1] <= 0 or after[1] <= 0 or before[0] == after[0]:
        return fallback
    slope = math.log(after[1] / before[1]) / math.log(after[0] / before[0])
    return min(max(slope, 1.0), 10.0)


if __name__ == "__main__":
    sys.exit(main())
