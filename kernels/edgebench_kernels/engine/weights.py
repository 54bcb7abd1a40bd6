"""Reference weights from a Hugging Face directory: safetensors only, every shape checked.

Nothing is unpickled. Tensors are views into the memory-mapped file until a linear copies them into
the layout that it executes, so an untouched fp16 tensor costs no private memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgebench_kernels.checkpoints.files import CONFIG, read_tensors
from edgebench_kernels.engine.config import LlamaConfig, read_config

EMBEDDING = "model.embed_tokens.weight"
LARGEST_HALF = 65504.0
FINAL_NORM = "model.norm.weight"
LM_HEAD = "lm_head.weight"
_FUSED = {"qkv_proj": "q_proj, k_proj and v_proj", "gate_up_proj": "gate_proj and up_proj"}
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaWeights:
    """A checkpoint: its shape and its fp16 tensors under their Hugging Face names."""

    config: LlamaConfig
    tensors: Mapping[str, Tensor]

    def linears(self) -> dict[str, Tensor]:
        """The weights that are multiplied (and quantized): name -> fp16 [N, K], execution order.

        `lm_head.weight` is always among them; for a tied checkpoint it is the embedding's tensor.
        """
        return {name: self.linear(name) for name in linear_shapes(self.config)}

    def linear(self, name: str) -> Tensor:
        """One linear's weight, fp16 [N, K]."""
        is_shared = name == LM_HEAD and self.config.is_tied
        return self.tensors[EMBEDDING if is_shared else name]


def linear_shapes(config: LlamaConfig) -> dict[str, tuple[int, int]]:
    """Hugging Face name -> (N, K) of every linear, lm_head included, in execution order."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, int]] = {}
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "self_attn.q_proj.weight"] = (config.query_size, hidden)
        shapes[prefix + "self_attn.k_proj.weight"] = (config.kv_size, hidden)
        shapes[prefix + "self_attn.v_proj.weight"] = (config.kv_size, hidden)
        shapes[prefix + "self_attn.o_proj.weight"] = (hidden, config.query_size)
        shapes[prefix + "mlp.gate_proj.weight"] = (inner, hidden)
        shapes[prefix + "mlp.up_proj.weight"] = (inner, hidden)
        shapes[prefix + "mlp.down_proj.weight"] = (hidden, inner)
    shapes[LM_HEAD] = (config.vocab_size, hidden)
    return shapes


def tensor_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that a checkpoint must hold."""
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, config.hidden_size)}
    shapes.update(linear_shapes(config))
    if config.is_tied:
        del shapes[LM_HEAD]
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{norm}.weight"] = (config.hidden_size,)
        if config.has_qkv_bias:
            for part in ("q_proj", "k_proj", "v_proj"):
                shapes[f"{prefix}self_attn.{part}.bias"] = shapes[
                    f"{prefix}self_attn.{part}.weight"
                ][:1]
        if config.has_head_norms:
            for norm in ("q_norm", "k_norm"):
                shapes[f"{prefix}self_attn.{norm}.weight"] = (config.head_dim,)
    shapes[FINAL_NORM] = (config.hidden_size,)
    return shapes


def load_reference(directory: Path) -> LlamaWeights:
    """Load `config.json` and `model.safetensors` (or its shards) from a Hugging Face directory.

    bf16 and fp32 checkpoints are rounded to fp16, the reference's storage. Raises ValueError naming
    the file or the tensor that is missing, truncated, misshapen or not a finite fp16 number.
    """
    config = read_config(directory / CONFIG)
    return weights_from_tensors(config, read_tensors(directory))


def weights_from_tensors(config: LlamaConfig, tensors: Mapping[str, Tensor]) -> LlamaWeights:
    """Check tensors (of a file or made in memory) against the config and hold them as fp16."""
    refuse_others(config, tensors)
    checked = {
        name: checked_tensor(name, shape, tensors.get(name))
        for name, shape in tensor_shapes(config).items()
    }
    return LlamaWeights(config=config, tensors=checked)


def checked_tensor(name: str, shape: tuple[int, ...], tensor: Tensor | None) -> Tensor:
    """One tensor in fp16; ValueError unless it is there, of that shape, and finite in fp16."""
    if tensor is None:
        raise ValueError(
            f"[engine] tensor {name} is missing from the checkpoint, and config.json asks for it; "
            "save the whole model, or the config that belongs to these weights"
        )
    check_shape(name, shape, tuple(tensor.shape))
    return _as_fp16(name, tensor)


def check_shape(name: str, shape: tuple[int, ...], came: tuple[int, ...]) -> None:
    """ValueError unless a tensor has the shape that config.json gives it."""
    if came != shape:
        raise ValueError(
            f"[engine] tensor {name} must have shape {list(shape)} by config.json, got {list(came)}"
        )


def with_norms(weights: LlamaWeights, norms: Mapping[str, NDArray[np.float16]]) -> LlamaWeights:
    """The same weights with other norms: module path -> fp16 [C]; see `with_tensors`."""
    return with_tensors(weights, {f"{name}.weight": norm for name, norm in norms.items()})


def with_tensors(weights: LlamaWeights, own: Mapping[str, NDArray[np.float16]]) -> LlamaWeights:
    """The same weights with some tensors replaced, by name, on the device of those before.

    A transform that folds scales into the linears divides what feeds them by the scales: norms,
    and the biases of linears. Raises ValueError for what the checkpoint has not in that shape.
    """
    tensors = dict(weights.tensors)
    for name, array in own.items():
        old = tensors.get(name)
        if old is None or tuple(old.shape) != array.shape or array.dtype != np.float16:
            raise ValueError(
                f"[engine] expected {name} to be a tensor of the checkpoint in fp16, got "
                f"{array.dtype} {list(array.shape)}"
            )
        tensors[name] = torch.from_numpy(array).to(old.device)
    return replace(weights, tensors=tensors)


def refuse_others(config: LlamaConfig, tensors: Mapping[str, Tensor]) -> None:
    """ValueError for a tensor that the model computes with and the config does not know.

    That is any of a decoder layer beyond the config's, and a bias where the family has none: zeros
    change nothing, and some tools write them. Others, such as RoPE's frequencies, are ignored.
    """
    _refuse_fused(tensors)
    _refuse_two_heads(config, tensors)
    refuse_other_layers(config, tensors)
    known = tensor_shapes(config)
    for name, tensor in tensors.items():
        if name.endswith(".bias") and name not in known and bool(tensor.any()):
            raise ValueError(
                f"[engine] tensor {name} is a bias, which this model's family does not have"
            )


def _refuse_fused(tensors: Mapping[str, Tensor]) -> None:
    """Linears whose rows are stored as one tensor belong to families that do not run here."""
    for name in tensors:
        parts = next((split for one, split in _FUSED.items() if f".{one}." in name), None)
        if parts is not None:
            raise ValueError(
                f"[engine] expected {parts}, each a tensor of its own, got {name}, which holds "
                "them in one; split its rows and save the checkpoint again"
            )


def _refuse_two_heads(config: LlamaConfig, tensors: Mapping[str, Tensor]) -> None:
    """A stored head beside a tied one is either the embedding again, or nobody knows which runs."""
    head, embedding = tensors.get(LM_HEAD), tensors.get(EMBEDDING)
    if not config.is_tied or head is None or embedding is None or torch.equal(head, embedding):
        return
    raise ValueError(
        f"[engine] expected {LM_HEAD} to be {EMBEDDING}, which config.json ties it to, got other "
        f"values; set tie_word_embeddings to false if they are meant, else remove {LM_HEAD}"
    )


def refuse_other_layers(config: LlamaConfig, names: Iterable[str]) -> None:
    """ValueError naming the first tensor of a decoder layer that the config does not have."""
    layer_of = {name: int(found[1]) for name in names if (found := _LAYER.match(name))}
    beyond = [name for name, layer in layer_of.items() if layer >= config.layers]
    if beyond:
        first = min(beyond, key=lambda name: (layer_of[name], name))
        raise ValueError(
            f"[engine] expected {config.layers} decoder layers by config.json "
            f"(num_hidden_layers), got tensor {first} of layer {layer_of[first]} too, counted from "
            "0; take the config.json that the weights were saved with"
        )


def _as_fp16(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype not in _FLOATS:
        raise ValueError(f"[engine] tensor {name} must be fp16, bf16 or fp32, got {tensor.dtype}")
    half = tensor.to(torch.float16).contiguous()
    # NaN and inf survive a sum; a sum in fp32 of finite fp16 values cannot overflow.
    if not bool(torch.isfinite(half.sum(dtype=torch.float32))):
        if bool(torch.isfinite(tensor).all()):
            largest = float(tensor.abs().max())
            raise ValueError(
                f"[engine] tensor {name} must fit in fp16 (at most {LARGEST_HALF:g}), got "
                f"{largest:g}; the reference stores fp16, so this model cannot run here"
            )
        raise ValueError(
            f"[engine] tensor {name} must be finite, got NaN or infinity; the checkpoint "
            "is broken, download or save it again"
        )
    return half
