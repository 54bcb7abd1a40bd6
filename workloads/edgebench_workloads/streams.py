"""One model under several roundings at once: the negative log-likelihood that each leaves.

The model is widened in memory one tensor at a time and run layer by layer over all tokens, so a
model of a billion weights needs no more memory than its largest matrix and the activations. Rounded
weights are multiplied in fp32: this judges the numbers, not a kernel.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file
from torch.nn.functional import scaled_dot_product_attention, silu

from edgebench_kernels.formats import choose_group, dequantize
from edgebench_kernels.quantize import quantize_rtn
from edgebench_workloads.widen import WidenPlan, widen_config, widen_tensor

GROUP = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How a stream's numbers are rounded; None leaves them as they are."""

    weight_bits: int | None = None
    activation_bits: int | None = None


SCHEMES: dict[str, Scheme] = {
    "fp16": Scheme(),
    "int4": Scheme(weight_bits=4),
    "int3": Scheme(weight_bits=3),
    "w4a8": Scheme(weight_bits=4, activation_bits=8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Token sequences packed end to end: M tokens of B sequences of at most T."""

    ids: torch.Tensor  # int64 [M]
    row: torch.Tensor  # int64 [M]: which sequence
    position: torch.Tensor  # int64 [M]: where in it
    target: torch.Tensor  # int64 [M]: next token, or -1 where the call is not asked for

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T)."""
        return int(self.row.max()) + 1, int(self.position.max()) + 1


class Streams:
    """The same widened model under several roundings, run side by side one layer at a time."""

    def __init__(self, directory: Path, plan: WidenPlan | None, schemes: Sequence[str]) -> None:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        self.config = config if plan is None else widen_config(config, plan.replicas)
        self.schemes = {name: SCHEMES[name] for name in schemes}
        self._plan = plan
        self._tensors = load_file(directory / "model.safetensors")

    def weight(self, name: str) -> npt.NDArray[np.float16]:
        """One tensor of the model, widened where there is a plan."""
        if self._plan is None:
            return self._tensors[name]
        wide: npt.NDArray[np.float16] = widen_tensor(name, self._tensors[name], self._plan)
        return wide

    def linear(self, name: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """x [M, K] -> x W^T [M, N] for every stream."""
        weight = self.weight(f"{name}.weight")
        rounded = {
            bits: torch.from_numpy(_rounded(weight, bits))
            for bits in {scheme.weight_bits for scheme in self.schemes.values()}
        }
        return {
            key: _activations(inputs[key], scheme.activation_bits) @ rounded[scheme.weight_bits].T
            for key, scheme in self.schemes.items()
        }

    def norm(self, name: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """RMSNorm of every stream."""
        weight = torch.from_numpy(self.weight(f"{name}.weight")).float()
        epsilon = self.config["rms_norm_eps"]
        return {
            key: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight
            for key, x in inputs.items()
        }

    def attention(
        self, prefix: str, inputs: dict[str, torch.Tensor], at: Examples
    ) -> dict[str, torch.Tensor]:
        """Self-attention of every stream, output projection included."""
        q, k, v = (self.linear(f"{prefix}.{name}_proj", inputs) for name in "qkv")
        mixed = {key: self._mix(q[key], k[key], v[key], at) for key in inputs}
        return self.linear(f"{prefix}.o_proj", mixed)

    def _mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, at: Examples) -> torch.Tensor:
        dim = self.config["head_dim"]
        q, k, v = (
            _by_head(x if x is v else _rotated(x, at.position, dim, self._theta), at, dim)
            for x in (q, k, v)
        )
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return mixed.transpose(1, 2)[at.row, at.position].flatten(1)

    @property
    def _theta(self) -> float:
        rope = self.config.get("rope_parameters") or self.config
        return float(rope["rope_theta"])

    def ffn(self, prefix: str, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """SwiGLU of every stream."""
        gate, up = (self.linear(f"{prefix}.{name}_proj", inputs) for name in ("gate", "up"))
        return self.linear(f"{prefix}.down_proj", {k: silu(gate[k]) * up[k] for k in inputs})

    @torch.inference_mode()
    def log_probabilities(self, at: Examples) -> dict[str, torch.Tensor]:
        """Log-probabilities of the whole vocabulary where tokens are asked for, float64 [., V]."""
        table = torch.from_numpy(self.weight("model.embed_tokens.weight"))
        x = dict.fromkeys(self.schemes, table[at.ids].float())
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}"
            mixed = self.attention(
                f"{prefix}.self_attn", self.norm(f"{prefix}.input_layernorm", x), at
            )
            x = {key: x[key] + mixed[key] for key in x}
            fed = self.ffn(f"{prefix}.mlp", self.norm(f"{prefix}.post_attention_layernorm", x))
            x = {key: x[key] + fed[key] for key in x}
        asked = at.target >= 0
        logits = self.linear("lm_head", self.norm("model.norm", {k: x[k][asked] for k in x}))
        return {key: z.double().log_softmax(-1) for key, z in logits.items()}


def _rounded(weight: npt.NDArray[np.float16], bits: int | None) -> npt.NDArray[np.float32]:
    """The weight as the quantizer leaves it, in fp32."""
    if bits is None:
        return weight.astype(np.float32)
    group = GROUP if weight.shape[1] % GROUP == 0 else choose_group(weight.shape[1])
    return dequantize(quantize_rtn(weight, group, bits=bits))


def _activations(x: torch.Tensor, bits: int | None) -> torch.Tensor:
    """Dynamic symmetric rounding per token; None returns x."""
    if bits is None:
        return x
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / (2 ** (bits - 1) - 1)
    return torch.round(x / scale) * scale


def _rotated(x: torch.Tensor, position: torch.Tensor, dim: int, theta: float) -> torch.Tensor:
    """RoPE on x [M, heads * D], halves paired as Llama's checkpoints have them."""
    frequency = theta ** (-torch.arange(0, dim, 2).float() / dim)
    angle = position[:, None, None].float() * frequency
    low, high = x.unflatten(1, (-1, dim)).chunk(2, dim=-1)
    turned = (low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin())
    return torch.cat(turned, dim=-1).flatten(1)


def _by_head(x: torch.Tensor, at: Examples, dim: int) -> torch.Tensor:
    """x [M, H * D] -> [B, H, T, D], padded on the right, where causal attention never looks."""
    heads = x.shape[1] // dim
    padded = x.new_zeros((*at.shape, heads, dim))
    padded[at.row, at.position] = x.unflatten(1, (heads, dim))
    return padded.transpose(1, 2)
