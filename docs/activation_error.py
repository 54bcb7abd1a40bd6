"""Measures the error of both INT4 paths on the activations that a real model feeds its linears.

    python docs/activation_error.py [--workload assistant] [--prompts 64]

Every fused linear of the reference is quantized (rtn); the inputs it saw while answering the
prompts go through every path and are held against float64 on the same INT4 weights, so that
only the activations' rounding and float32 sums count. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from edgebench.prepare import EOS_ID, encode_pairs
from edgebench_kernels import reference
from edgebench_kernels.engine import load_reference
from edgebench_kernels.engine.fuse import fused_linears
from edgebench_kernels.engine.model import Engine
from edgebench_kernels.formats import choose_group
from edgebench_kernels.packing import LINEAR_DOORS, PackedInt4, linear
from edgebench_kernels.quantize import quantize_rtn
from edgebench_workloads.catalog import find

MOST_ROWS = 256  # of each linear's inputs: float64 is slow


class Spy:
    """An fp32 linear that keeps its inputs."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight = weight.float()
        self.shape = (weight.shape[0], weight.shape[1])
        self.seen: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """f32 [..., K] -> f32 [..., N]."""
        self.seen.append(x.detach().reshape(-1, self.shape[1]).clone())
        return x @ self.weight.T

    def inputs(self) -> NDArray[np.float32]:
        """Up to MOST_ROWS rows [M, K], evenly spread over what was seen."""
        rows = torch.cat(self.seen)
        at = torch.linspace(0, len(rows) - 1, min(MOST_ROWS, len(rows))).long()
        return rows[at].numpy()


def main() -> None:
    """Parse, run the prompts, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", default="assistant")
    parser.add_argument("--prompts", type=int, default=64)
    arguments = parser.parse_args()
    spies = run_prompts(arguments.workload, arguments.prompts)
    print("| linear | largest / median abs(x) | " + " | ".join(LINEAR_DOORS) + " |")
    print("| --- | --- |" + " --- |" * len(LINEAR_DOORS))
    table = {name: errors_of(spy) for name, spy in spies.items()}
    for kind, names in kinds(list(spies)).items():
        print(row(kind, [table[name] for name in names], np.median))
    print(row("worst linear", list(table.values()), np.max))


def run_prompts(workload_name: str, count: int) -> dict[str, Spy]:
    """Answer the prompts, one after another, with fp32 linears that keep what they see."""
    workload = find(workload_name)
    directory = workload.reference_directory()
    weights = load_reference(directory)
    _, prompts, _ = encode_pairs(directory, workload.scored()[:count])
    spies = {
        fused: Spy(torch.cat([weights.linear(name) for name in names]))
        for fused, names in fused_linears(weights.config).items()
    }
    new_tokens = workload.task.max_new_tokens
    longest = max(map(len, prompts)) + new_tokens
    engine = Engine(weights.config, weights.tensors, spies, max_length=longest, ops="torch")
    for prompt in prompts:
        engine.generate_greedy([list(prompt)], new_tokens, EOS_ID)
    return spies


def errors_of(spy: Spy) -> list[float]:
    """Outlier ratio, then |y - exact| / |exact| (Frobenius) of each path."""
    x = spy.inputs()
    tensor = quantize_rtn(spy.weight.numpy(), choose_group(spy.shape[1]))
    packed = PackedInt4(tensor)
    exact = reference.linear_exact(tensor, x)
    size = np.linalg.norm(exact)
    magnitude = np.abs(x)
    ratio = float(magnitude.max() / np.median(magnitude))
    return [ratio, *(float(np.linalg.norm(linear(packed, x, path) - exact) / size)
                     for path in LINEAR_DOORS)]  # fmt: skip


def kinds(names: list[str]) -> dict[str, list[str]]:
    """Names by what the linear is, whatever its layer."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rsplit(".", 1)[-1], []).append(name)
    return found


def row(title: str, values: list[list[float]], combine: Callable[..., np.ndarray]) -> str:
    """One line: the median, or the largest, of each column."""
    ratio, *errors = combine(np.array(values), axis=0)
    return f"| {title} | {ratio:.0f} | " + " | ".join(f"{error:.1e}" for error in errors) + " |"


if __name__ == "__main__":
    main()
