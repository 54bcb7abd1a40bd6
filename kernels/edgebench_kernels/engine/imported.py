"""A 4-bit checkpoint of another tool as an engine takes it: its codes, and all else in fp16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from edgebench_kernels.checkpoints.directory import Int4Checkpoint, read_int4
from edgebench_kernels.engine.config import LlamaConfig, parse_config
from edgebench_kernels.engine.fuse import fused_linears
from edgebench_kernels.engine.weights import (
    LlamaWeights,
    check_shape,
    checked_tensor,
    refuse_other_layers,
    refuse_others,
    tensor_shapes,
    weights_from_tensors,
)
from edgebench_kernels.formats import Int4Tensor, dequantize


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedWeights:
    """What `build_int4` and `build_fp16` take of it."""

    format: str
    weights: LlamaWeights
    """A quantized linear as the fp16 numbers nearest to those that its codes stand for."""
    quantized: Mapping[str, Int4Tensor]

    @property
    def kept(self) -> tuple[str, ...]:
        """The engine's linears of which no part is quantized."""
        return tuple(
            fused
            for fused, names in fused_linears(self.weights.config).items()
            if not any(name.removesuffix(".weight") in self.quantized for name in names)
        )


def require_whole(checkpoint: Int4Checkpoint, config: LlamaConfig) -> None:
    """Raise ValueError unless a 4-bit checkpoint is what an engine of this config computes with.

    Names the first tensor that is missing, misshapen, not finite in fp16 or of no layer.
    """
    refuse_others(config, checkpoint.tensors)
    refuse_other_layers(config, checkpoint.quantized)
    for name, shape in tensor_shapes(config).items():
        quantized = checkpoint.quantized.get(name.removesuffix(".weight"))
        if quantized is None:
            checked_tensor(name, shape, checkpoint.tensors.get(name))
        else:
            check_shape(name, shape, quantized.shape)


def load_imported(directory: Path) -> ImportedWeights:
    """Read a 4-bit directory; ValueError names the file or the tensor and what is wrong."""
    layout, checkpoint = read_int4(directory)
    tensors = dict(checkpoint.tensors)
    for name, tensor in checkpoint.quantized.items():
        tensors[f"{name}.weight"] = torch.from_numpy(dequantize(tensor)).half()
    return ImportedWeights(
        format=layout.name,
        weights=weights_from_tensors(parse_config(checkpoint.config), tensors),
        quantized=checkpoint.quantized,
    )
