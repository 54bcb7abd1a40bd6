"""What quantizing a model takes of the host's memory, from its shape alone: an upper bound.

    weights       fp16, all of them, and the INT4 tensors as they are made
    one layer     the largest layer (or lm_head) in fp32; once more for the folded one
    activations   every calibration token: hidden states, what a layer's linears read, its middle
    a Hessian     K x K in fp32 for the widest input, and the copies that its factor goes through

rtn goes linear by linear and keeps no activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgebench.units import format_bytes

if TYPE_CHECKING:
    from edgebench_kernels.engine import LlamaConfig

F16, F32 = 2, 4  # bytes
INT4_BYTES = 0.5 + 3 / 32  # a weight's code, scale and zero point in the smallest group
HESSIAN_COPIES = 4  # gptq.py: the Hessian, permuted, its factor, the inverse
SMOOTHERS, ROUNDERS = ("awq", "smoothquant"), ("gptq",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes, by what they hold."""

    weights_bytes: int
    layer_bytes: int
    activations_bytes: int
    hessian_bytes: int

    @property
    def total_bytes(self) -> int:
        """All that is held at once."""
        return self.weights_bytes + self.layer_bytes + self.activations_bytes + self.hessian_bytes

    def __str__(self) -> str:
        parts = {
            "weights": self.weights_bytes,
            "one layer in fp32": self.layer_bytes,
            "calibration activations": self.activations_bytes,
            "a Hessian": self.hessian_bytes,
        }
        return ", ".join(f"{what} {format_bytes(size)}" for what, size in parts.items() if size)


def footprint(config: LlamaConfig, names: Sequence[str], tokens: int) -> Footprint:
    """Of the transforms of a chain, by name, with so many calibration tokens (0 for rtn)."""
    hidden, inner = config.hidden_size, config.intermediate_size
    layer = hidden * (2 * config.query_size + 2 * config.kv_size + 3 * inner)
    head = hidden * config.vocab_size
    weights = config.layers * layer + head * (1 if config.is_tied else 2)
    widest = max(hidden, inner, config.query_size)
    smooths, rounds = (any(name in some for name in names) for some in (SMOOTHERS, ROUNDERS))
    states = hidden * (1 + smooths + rounds)
    inputs = (2 * hidden + config.query_size + inner) if smooths else widest
    middle = max(3 * inner, 3 * config.query_size + 2 * config.kv_size) + hidden
    needs_data = smooths or rounds
    return Footprint(
        weights_bytes=int(weights * (F16 + INT4_BYTES)),
        layer_bytes=F32 * max(layer if needs_data else hidden * widest, head) * (1 + smooths),
        activations_bytes=F32 * tokens * (states + inputs + middle) if needs_data else 0,
        hessian_bytes=F32 * HESSIAN_COPIES * widest**2 if rounds else 0,
    )
