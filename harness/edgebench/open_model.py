"""The open track's ledger: what a model is by its tensors, and what bars it from the closed track.

Computed once by the runner and again by `bench check`, from nothing but the tensors and the shape:
no declared sparsity is believed. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from edgebench.errors import SpecError
from edgebench.profiles import CLOSED_TRANSFORMS
from edgebench.record import (
    Ledger,
    OpenModel,
    OpenNetwork,
    OpenShape,
    TensorFacts,
    Training,
    TransformStep,
)
from edgebench.transform.quantized import array_sha256
from edgebench_kernels.formats import Int4Tensor, unpack_codes
from edgebench_kernels.int8_format import Int8Tensor

if TYPE_CHECKING:
    from edgebench_kernels.engine import LlamaConfig

Fp16 = npt.NDArray[np.float16]
Shape = tuple[int, ...]

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens", "model.norm", "lm_head"
DetectedPattern = Literal["dense", "unstructured", "2:4", "4:8"]
PATTERNS: tuple[tuple[DetectedPattern, int, int], ...] = (("2:4", 2, 4), ("4:8", 4, 8))
"""(name, kept, of how many), the stricter first: what is 2:4 is 4:8 too."""
DENSE_ZEROS = 0.2  # ours: rounding to 4 bits alone brings up to 14 % of a normal tensor to zero
CONTEXT_TOKENS = 128  # ours: tokens that attention reads and the KV cache holds in the figures
ACTIVATION_BYTES = 4  # the engine's activations are float32 on CPUs
CELL_BYTES = 2  # and its KV cache is fp16
PEAK_DEFINITION = (
    f"weights as stored, one sequence's fp16 KV cache of {CONTEXT_TOKENS} tokens, and the largest "
    "input + output + residual of a linear layer in float32 for one token"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """One tensor: its shape, its nonzero weights, and the facts of the ledger."""

    shape: Shape
    facts: TensorFacts


def shape_of(config: LlamaConfig) -> OpenShape:
    """A config in the ledger's words; SpecError for biases and per-head norms, which it lacks."""
    if config.has_qkv_bias or config.has_head_norms:
        raise SpecError("[open] expected a decoder without biases and head norms, got one with")
    return OpenShape(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        layers=config.layers,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        is_tied=config.is_tied,
    )


def linear_shapes(shape: OpenShape) -> dict[str, tuple[int, int]]:
    """Module path -> (N, K) of every linear layer."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    query, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    shapes: dict[str, tuple[int, int]] = {}
    for index in range(shape.layers):
        for name, size in (
            ("self_attn.q_proj", (query, hidden)),
            ("self_attn.k_proj", (kv, hidden)),
            ("self_attn.v_proj", (kv, hidden)),
            ("self_attn.o_proj", (hidden, query)),
            ("mlp.gate_proj", (inner, hidden)),
            ("mlp.up_proj", (inner, hidden)),
            ("mlp.down_proj", (hidden, inner)),
        ):
            shapes[f"model.layers.{index}.{name}"] = size
    return {**shapes, HEAD: (shape.vocab_size, hidden)}


def tensor_shapes(shape: OpenShape) -> dict[str, Shape]:
    """Tensor name -> shape of the whole fp16 model."""
    shapes: dict[str, Shape] = {f"{n}.weight": s for n, s in linear_shapes(shape).items()}
    if shape.is_tied:
        del shapes[f"{HEAD}.weight"]
    for index in range(shape.layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{index}.{norm}.weight"] = (shape.hidden_size,)
    shapes[f"{FINAL_NORM}.weight"] = (shape.hidden_size,)
    shapes[f"{EMBEDDING}.weight"] = (shape.vocab_size, shape.hidden_size)
    return shapes


def kept_shapes(shape: OpenShape, *, is_quantized: bool) -> dict[str, Shape]:
    """What open.safetensors must hold: everything, or everything but the INT4 linears."""
    linears = {f"{name}.weight" for name in linear_shapes(shape)} if is_quantized else set()
    return {name: size for name, size in tensor_shapes(shape).items() if name not in linears}


def count_int4(tensor: Int4Tensor) -> Counted:
    """The facts of an INT4 tensor: a weight is zero where its code is the zero point."""
    codes = unpack_codes(tensor)
    zero = np.repeat(tensor.zero, tensor.group, axis=1)
    scales = tensor.scale.nbytes + tensor.zero.nbytes
    entropy = entropy_bits(codes) / 8 * codes.size
    return _counted(codes == zero, tensor.size_bytes, entropy + scales)


def count_int8(tensor: Int8Tensor) -> Counted:
    """The facts of an INT8 tensor."""
    entropy = entropy_bits(tensor.codes.view(np.uint8)) / 8 * tensor.codes.size
    return _counted(tensor.codes == 0, tensor.size_bytes, entropy + tensor.scale.nbytes)


def count_fp16(array: Fp16) -> Counted:
    """The facts of an fp16 tensor; both zeros are zero."""
    plain = np.where(array == 0, np.float16(0), array)
    entropy = entropy_bits(plain.view(np.uint16)) / 8 * array.size
    return _counted(array == 0, array.nbytes, entropy)


def _counted(is_zero: npt.NDArray[np.bool_], stored_bytes: int, entropy_bytes: float) -> Counted:
    return Counted(
        shape=is_zero.shape,
        facts=TensorFacts(
            weights=is_zero.size,
            nonzero=int(is_zero.size - is_zero.sum()),
            pattern=pattern_of(is_zero),
            stored_bytes=stored_bytes,
            entropy_bytes=float(entropy_bytes),
        ),
    )


def entropy_bits(symbols: npt.NDArray[np.unsignedinteger]) -> float:
    """- sum p log2 p of the symbols' empirical distribution."""
    counts = np.unique(symbols, return_counts=True)[1]
    share = counts / symbols.size
    return float(max(0.0, -(share * np.log2(share)).sum()))


def pattern_of(is_zero: npt.NDArray[np.bool_]) -> DetectedPattern:
    """The pattern that a tensor's zeros keep: every group of an N:M pattern, with no exception."""
    if is_zero.ndim == 2:
        for name, kept, width in PATTERNS:
            if is_zero.shape[1] % width == 0:
                zeros = is_zero.reshape(-1, width).sum(axis=1)
                if (zeros >= width - kept).all():
                    return name
    return "unstructured" if is_zero.mean() > DENSE_ZEROS else "dense"


def describe(
    shape: OpenShape,
    quantized: Iterable[tuple[str, Int4Tensor]],
    kept: Mapping[str, Fp16],
    training: Sequence[Training] = (),
) -> OpenModel:
    """Everything that the ledger says of an open model, from its tensors."""
    counted = {name: count_int4(tensor) for name, tensor in quantized}
    counted |= {name.removesuffix(".weight"): count_fp16(array) for name, array in kept.items()}
    facts = {name: one.facts for name, one in sorted(counted.items())}
    total = sum(one.weights for one in facts.values())
    attention = 2 * shape.layers * shape.heads * shape.head_dim * CONTEXT_TOKENS
    linears = linear_shapes(shape)
    read = {name: facts[EMBEDDING if name not in facts else name] for name in linears}
    stored = sum(one.stored_bytes for one in facts.values())
    return OpenModel(
        shape=shape,
        kept={name: array_sha256(array) for name, array in kept.items()},
        tensors=facts,
        params_total=total,
        params_nonzero=sum(one.nonzero for one in facts.values()),
        bits_per_weight=8 * stored / total,
        entropy_bits_per_weight=8 * sum(one.entropy_bytes for one in facts.values()) / total,
        dense_macs_per_token=attention + sum(one.weights for one in read.values()),
        effective_macs_per_token=attention + sum(one.nonzero for one in read.values()),
        macs_context_tokens=CONTEXT_TOKENS,
        peak_memory_bytes=stored + _working_bytes(shape),
        peak_memory_definition=PEAK_DEFINITION,
        training=list(training),
    )


def _working_bytes(shape: OpenShape) -> int:
    """See PEAK_DEFINITION, without the weights."""
    cache = CELL_BYTES * 2 * shape.layers * shape.kv_heads * shape.head_dim * CONTEXT_TOKENS
    widest = max(n + k for n, k in linear_shapes(shape).values()) + shape.hidden_size
    return cache + ACTIVATION_BYTES * widest


def not_closed(ledger: Ledger, reference: OpenShape | None) -> list[str]:
    """What disqualifies a submission from the closed track, each with its rule; empty: nothing.

    reference: the reference's shape; None only where no step changed the model.
    """
    reasons = [
        f"W-07: {_worded(step)} is no post-training quantization"
        for step in ledger.steps
        if step.transform not in CLOSED_TRANSFORMS
    ]
    if (subnet := ledger.open_subnet) is not None:
        depths = "-".join(map(str, subnet.genome.depths))
        reasons.append(
            f"W-03: a subnet of the supernet, not the reference: {depths} blocks at resolution "
            f"{subnet.genome.resolution}, {subnet.dense_macs_per_image} multiply-accumulates"
        )
    if (network := ledger.open_network) is not None:
        reasons += _network_reasons(network, is_quantized=bool(ledger.tensors))
    model = ledger.open_model
    if model is None:
        return reasons
    if (shape := model.shape) != reference:
        reasons.append(
            f"W-03: another graph than the reference's: {shape.layers} layers, {shape.heads} heads "
            f"({shape.kv_heads} of keys and values), {shape.intermediate_size} FFN units"
        )
    if not ledger.tensors:
        reasons.append("W-03: its linear layers are not quantized")
    body = [facts for name, facts in model.tensors.items() if name.startswith("model.layers.")]
    found = sorted({facts.pattern for facts in body} - {"dense"})
    if found:
        share = 1 - sum(f.nonzero for f in body) / sum(f.weights for f in body)
        reasons.append(
            f"W-12: {share:.1%} of the layers' weights are zero, in patterns {', '.join(found)}"
        )
    return reasons + _trained(model.training)


def _network_reasons(network: OpenNetwork, *, is_quantized: bool) -> list[str]:
    """Of a changed network of images."""
    reasons = []
    if (middles := network.genome.middles) is not None:
        widths = "-".join(str(one) for row in middles for one in row if one)
        reasons.append(f"W-03: narrower blocks than the reference's: {widths} middle channels")
    if not is_quantized:
        reasons.append("W-03: its matrix products are not quantized")
    body = [facts for name, facts in network.tensors.items() if name.endswith(".weight")]
    found = sorted({facts.pattern for facts in body} - {"dense"})
    if found:
        share = 1 - sum(f.nonzero for f in body) / sum(f.weights for f in body)
        reasons.append(f"W-12: {share:.1%} of the weights are zero, in patterns {', '.join(found)}")
    if network.coded is not None:
        reasons.append("W-05: weights share values, which are no grid of INT4")
    return reasons + _trained(network.training)


def _trained(training: Sequence[Training]) -> list[str]:
    return [f"W-04: trained on {one.examples} examples ({one.steps} steps)" for one in training]


def _worded(step: TransformStep) -> str:
    words = ",".join(f"{key}={value}" for key, value in sorted(step.parameters.items()))
    return f"{step.transform}:{words}" if words else step.transform
