"""A 4-bit checkpoint's directory: read into canonical tensors, written in any of the formats."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from edgebench_kernels.checkpoints import detect
from edgebench_kernels.checkpoints.files import CONFIG, WEIGHTS, read_json, read_tensors
from edgebench_kernels.checkpoints.layout import Array, Format, Grouping, UnsupportedLayout
from edgebench_kernels.checkpoints.quantization import KEY, quantization_of
from edgebench_kernels.formats import Int4Tensor

BESIDE = (  # copied as they are: tokenizer and generation settings
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
_LM_HEAD = "lm_head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Int4Checkpoint:
    """A quantized model outside any format."""

    config: Mapping[str, Any]
    """config.json without its quantization_config."""
    quantized: Mapping[str, Int4Tensor]
    """Module path of a linear, e.g. model.layers.0.mlp.up_proj -> its weight."""
    tensors: Mapping[str, Tensor]
    """All other tensors under their own names, as stored."""


def read_int4(directory: Path) -> tuple[Format, Int4Checkpoint]:
    """Read a 4-bit checkpoint; ValueError names the file, the linear, and what is wrong."""
    raw = read_json(directory / CONFIG)
    raw.pop(KEY, None)
    quantization = quantization_of(directory)
    if quantization is None:
        raise UnsupportedLayout(
            f"[checkpoint] {directory / CONFIG} has no {KEY}: not a 4-bit checkpoint"
        )
    layout = detect(quantization)
    grouping = layout.grouping(quantization)
    quantized, rest = _decoded(layout, grouping, read_tensors(directory))
    if not quantized:
        raise ValueError(
            f"[checkpoint] {directory} is called {layout.name} and holds no tensor that ends in "
            f".{layout.required[0]}"
        )
    return layout, Int4Checkpoint(config=raw, quantized=quantized, tensors=rest)


def write_int4(checkpoint: Int4Checkpoint, layout: Format, directory: Path) -> None:
    """Write the model into a new or empty directory; config.json last, so it tells completeness.

    Raises UnsupportedLayout for what the format cannot hold, before anything is written;
    FileExistsError for a directory with something in it, OSError where it cannot be written.
    """
    require_new(directory)
    _refuse_tied_head(checkpoint)
    quantization = layout.config(checkpoint.quantized, kept_linears(checkpoint))
    stored = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    for name, tensor in checkpoint.quantized.items():
        try:
            parts = layout.encode(tensor)
        except UnsupportedLayout as err:
            raise UnsupportedLayout(f"[export] {name}: {err}") from err
        stored |= {f"{name}.{part}": torch.from_numpy(array) for part, array in parts.items()}
    directory.mkdir(parents=True, exist_ok=True)
    try:
        save_file(stored, directory / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as err:
        (directory / WEIGHTS).unlink(missing_ok=True)  # so that the folder is empty again
        raise OSError(errno.EIO, str(err), str(directory / WEIGHTS)) from err
    # fp16, because a loader that took scales as bf16 would round them.
    config = {name: value for name, value in checkpoint.config.items() if name != "torch_dtype"}
    config |= {"dtype": "float16", "quantization_config": quantization}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (directory / CONFIG).write_text(text, encoding="utf-8")


def require_new(directory: Path) -> None:
    """FileExistsError unless a directory is absent or empty."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        came = "one that is not" if directory.is_dir() else "a file"
        raise FileExistsError(
            f"[export] {directory} must be a new or an empty directory, got {came}; name another"
        )


def copy_beside(source: Path, directory: Path) -> None:
    """Copy tokenizer and generation settings, whichever of them there are."""
    for name in BESIDE:
        if (source / name).is_file():
            shutil.copyfile(source / name, directory / name)


def kept_linears(checkpoint: Int4Checkpoint) -> list[str]:
    """Module paths of linears that are not quantized; a tied lm_head is one of them."""
    names = {
        name.removesuffix(".weight")
        for name, tensor in checkpoint.tensors.items()
        if name.endswith(".weight") and tensor.dim() == 2 and "embed_tokens" not in name
    }
    if _LM_HEAD not in checkpoint.quantized:
        names.add(_LM_HEAD)
    return sorted(names)


def _decoded(
    layout: Format, grouping: Grouping, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Int4Tensor], dict[str, Tensor]]:
    """The quantized linears by module path, and every tensor that is no part of one."""
    mark = "." + layout.required[0]
    names = [key.removesuffix(mark) for key in tensors if key.endswith(mark)]
    rest = dict(tensors)
    quantized: dict[str, Int4Tensor] = {}
    for name in names:
        parts = {
            part: _array(rest.pop(f"{name}.{part}"))
            for part in (*layout.required, *layout.optional)
            if f"{name}.{part}" in rest
        }
        missing = [part for part in layout.required if part not in parts]
        if missing:
            raise ValueError(f"[{layout.name}] {name} has no {', '.join(missing)}")
        try:
            quantized[name] = layout.decode(parts, grouping)
        except ValueError as err:
            raise type(err)(f"[{layout.name}] {name}: {err}") from err
    return quantized, rest


def _array(tensor: Tensor) -> Array:
    """As numpy; bf16, which numpy lacks, as the same values in fp32."""
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _refuse_tied_head(checkpoint: Int4Checkpoint) -> None:
    if _LM_HEAD in checkpoint.quantized and checkpoint.config.get("tie_word_embeddings"):
        raise UnsupportedLayout(
            "[export] lm_head is quantized and config.json ties it to the embedding, which is not: "
            "a loader would take one of the two; leave lm_head out"
        )
