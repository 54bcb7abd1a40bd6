"""The roofline place: how much of the measured machine a kernel used.

Both percentages are lower bounds: attention scores, the KV cache and activations are not counted,
so that only weights decide and nobody gains by moving more.

- Operations of a sample: 2 (B (prompt + output - 1) + H output), where B and H are the weights of
  the body's linear layers and of the output head: prefill runs the body over the prompt and the
  head once, each later token runs both once. percent_of_compute = operations / duration / ceiling.
- Bytes of a decode step: the weights once, shared by the batch: weight_bytes / batch_size a token.
  Single-stream: percent_of_bandwidth = bytes / median TPOT / ceiling, the median over the queries
  that have a TPOT. Offline: bytes * output tokens / duration / ceiling.
- No percent_of_bandwidth where the weights fit in CACHE_MULTIPLE times the last-level cache, or
  where that cache's size is unknown: memory does not bound what never leaves the cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgebench import stats
from edgebench.profiles import CACHE_MULTIPLE
from edgebench.record import RooflinePlace, SampleRow, Scenario
from edgebench.scenarios import measured_ns
from edgebench.units import NS_PER_S, format_bytes

Arithmetic = Literal["int8", "fp16", "bf16", "fp32"]
UNKNOWN_BYTES = "external engine: bytes unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """How many weights the reference's linear layers hold.

    A convolution reads a weight once for each pixel, so a model of images counts its
    multiply-accumulates in `body_weights`, one image as one token.
    """

    body_weights: int
    head_weights: int

    @property
    def operations_per_token(self) -> int:
        """Multiplications and additions of one decode step of one sequence."""
        return 2 * (self.body_weights + self.head_weights)


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """How a kernel ran, as far as its roofline depends on it."""

    weight_bytes: int | None
    """None for an external engine: then its place is unknown."""
    batch_size: int
    arithmetic: Arithmetic | None
    last_level_cache_bytes: int | None

    @property
    def bytes_per_token(self) -> float | None:
        """What one decode step streams, shared by the sequences of its batch."""
        return None if self.weight_bytes is None else self.weight_bytes / self.batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one kernel's performance blocks computed, and how long they took."""

    operations: int
    operations_per_token: int
    duration_s: float
    seconds_per_token: float | None


def model_of(shapes: Mapping[str, tuple[int, ...]], head: str = "lm_head") -> Model:
    """Count the weights of linear layers: module path, with or without `.weight` -> (N, K)."""
    sizes = {name: shape[0] * shape[1] for name, shape in shapes.items()}
    heads = [name for name in sizes if name.removesuffix(".weight").split(".")[-1] == head]
    head_weights = sum(sizes[name] for name in heads)
    return Model(body_weights=sum(sizes.values()) - head_weights, head_weights=head_weights)


def work_of(
    scenario: Scenario, rows: Sequence[SampleRow], prompt_tokens: Sequence[int], model: Model
) -> Work:
    """Add up the work of one kernel's performance rows."""
    output = sum(len(row.output_ids) for row in rows)
    body = sum(prompt_tokens[row.sample] + len(row.output_ids) - 1 for row in rows)
    duration_s = measured_ns(rows) / NS_PER_S
    if scenario == "single-stream":
        seconds_per_token = _median_tpot_s(rows)
    else:
        seconds_per_token = duration_s / output if output and duration_s else None
    return Work(
        operations=2 * (model.body_weights * body + model.head_weights * output),
        operations_per_token=model.operations_per_token,
        duration_s=duration_s,
        seconds_per_token=seconds_per_token,
    )


def _median_tpot_s(rows: Sequence[SampleRow]) -> float | None:
    tpots = [
        stats.tpot_ns(
            row.completed_ns - row.issued_ns,
            stats.ttft_ns(row.issued_ns, row.first_token_ns),
            len(row.output_ids),
        )
        for row in rows
    ]
    median_ns = stats.median([tpot for tpot in tpots if tpot is not None])
    return median_ns / NS_PER_S if median_ns else None


def place(work: Work, executed: Executed, ceilings: Mapping[str, float]) -> RooflinePlace:
    """Return the kernel's place under ceilings in bytes/s and op/s, with the reason for a None."""
    if executed.weight_bytes is None:
        return RooflinePlace(reason=UNKNOWN_BYTES)
    bandwidth, no_bandwidth = _percent_of_bandwidth(work, executed, ceilings.get("read_bandwidth"))
    compute, no_compute = _percent_of_compute(work, executed.arithmetic, ceilings)
    return RooflinePlace(
        bytes_per_token=executed.bytes_per_token,
        operations_per_token=float(work.operations_per_token),
        percent_of_bandwidth=bandwidth,
        percent_of_compute=compute,
        compute_ceiling=executed.arithmetic,
        reason="; ".join(filter(None, (no_bandwidth, no_compute))) or None,
    )


def _percent_of_bandwidth(
    work: Work, executed: Executed, ceiling: float | None
) -> tuple[float | None, str | None]:
    cache, size, streamed = (
        executed.last_level_cache_bytes, executed.weight_bytes, executed.bytes_per_token
    )  # fmt: skip
    if size is None or streamed is None:
        return None, UNKNOWN_BYTES
    if cache is None:
        return None, "bandwidth: the size of the last-level cache is unknown"
    if size <= CACHE_MULTIPLE * cache:
        return None, (
            f"bandwidth: the weights ({format_bytes(size)}) fit in "
            f"{CACHE_MULTIPLE}x the last-level cache ({format_bytes(cache)})"
        )
    if ceiling is None:
        return None, "bandwidth: no ceiling was measured"
    if work.seconds_per_token is None:
        return None, "bandwidth: no output has a second token"
    return 100 * streamed / work.seconds_per_token / ceiling, None


def _percent_of_compute(
    work: Work, arithmetic: Arithmetic | None, ceilings: Mapping[str, float]
) -> tuple[float | None, str | None]:
    if arithmetic is None:
        return None, "compute: the arithmetic that ran has no ceiling"
    ceiling = ceilings.get(arithmetic)
    if ceiling is None:
        return None, f"compute: no {arithmetic} ceiling was measured"
    if not work.duration_s:
        return None, "compute: nothing took time"
    return 100 * work.operations / work.duration_s / ceiling, None
