"""Writes a workload's reference for other engines: a Hugging Face directory, or one GGUF file.

`python -m edgebench_workloads.served assistant --out DIR` and `... --gguf FILE [--type q4_0]`; the
latter needs the package gguf, which also rounds to llama.cpp's block formats. The layout of a Llama
in GGUF is that of llama.cpp's own converter: rotary pairs lie side by side there and half a head
apart in Hugging Face's, so rows of q_proj and k_proj are reordered (github.com/ggml-org/llama.cpp,
conversion of LlamaForCausalLM).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from edgebench_workloads.catalog import find
from edgebench_workloads.errors import WorkloadError

FILES = (
    "config.json", "generation_config.json", "model.safetensors", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json",
)  # fmt: skip
PRE_TOKENIZER = "gpt-2"
"""The nearest to the workload's own that llama.cpp knows; prompts given as token ids need none."""

TYPES = {"f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0"}
"""Of the linears of a GGUF file, with llama.cpp's name of such a file; embeddings stay fp16."""
EMBEDDING = "model.embed_tokens.weight"

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def copy_directory(directory: Path, out: Path) -> Path:
    """Copy a verified reference as a Hugging Face directory, which AutoTokenizer reads too."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (directory / name).is_file():
            shutil.copyfile(directory / name, out / name)
    return out


def gguf_name(name: str) -> str:
    """Return a tensor's name in GGUF."""
    path = name.removesuffix(".weight")
    if path.startswith("model.layers."):
        _, _, layer, inner = path.split(".", 3)
        return f"blk.{layer}.{NAMES[inner]}.weight"
    return f"{NAMES[path]}.weight"


def pairs_side_by_side(weight: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Reorder rows [heads * D, K] of q_proj or k_proj: rotary pair (i, i + D/2) -> (2i, 2i + 1)."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def write_gguf(directory: Path, file: Path, kind: str = "f16") -> Path:
    """Write a Llama whose linears have one of TYPES, its norms fp32, with its tokenizer.

    Needs the package gguf. q4_0 and q8_0 are blocks of 32 with an fp16 scale, rounded to nearest.
    """
    import gguf

    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(file, "llama")
    _write_config(writer, config)
    writer.add_file_type(gguf.LlamaFileType[TYPES[kind]])
    _write_tokenizer(writer, json.loads((directory / "tokenizer.json").read_text(encoding="utf-8")))
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    with safe_open(directory / "model.safetensors", framework="numpy") as tensors:
        for name in tensors.keys():  # noqa: SIM118  safe_open is no mapping
            weight = tensors.get_tensor(name)
            if (part := name.split(".")[-2]) in heads:
                weight = pairs_side_by_side(weight, heads[part])
            _add_tensor(writer, name, weight, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tensor(writer: Any, name: str, weight: npt.NDArray[Any], kind: str) -> None:
    import gguf

    if weight.ndim == 1:
        writer.add_tensor(gguf_name(name), weight.astype(np.float32))
    elif kind == "f16" or name == EMBEDDING:
        writer.add_tensor(gguf_name(name), weight)
    else:
        blocks = gguf.GGMLQuantizationType[kind.upper()]
        rounded = gguf.quants.quantize(weight.astype(np.float32), blocks)
        writer.add_tensor(gguf_name(name), rounded, raw_dtype=blocks)


def _write_config(writer: Any, config: dict[str, Any]) -> None:
    head_dim = config["head_dim"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _write_tokenizer(writer: Any, tokenizer: dict[str, Any]) -> None:
    import gguf

    ids = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    added = {entry["id"]: entry["content"] for entry in tokenizer["added_tokens"]}
    tokens = {**ids, **added}
    special = {text: number for number, text in added.items()}
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list([tokens[number] for number in range(len(tokens))])
    writer.add_token_types([control if n in added else normal for n in range(len(tokens))])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_bos_token_id(special["<bos>"])
    writer.add_eos_token_id(special["<eos>"])
    writer.add_pad_token_id(special["<pad>"])
    writer.add_add_bos_token(False)  # prompts bring their own


def main() -> None:
    """Write what was asked for, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workload")
    parser.add_argument("--out", type=Path, metavar="DIR", help="a Hugging Face directory")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="one GGUF file")
    parser.add_argument("--type", choices=TYPES, default="f16", help="of the linears in it")
    arguments = parser.parse_args()
    if arguments.out is None and arguments.gguf is None:
        parser.error("expected --out DIR or --gguf FILE")
    try:
        directory = find(arguments.workload).reference_directory()
    except WorkloadError as error:
        sys.exit(str(error))
    if arguments.out is not None:
        print(copy_directory(directory, arguments.out))
    if arguments.gguf is not None:
        print(write_gguf(directory, arguments.gguf, arguments.type))


if __name__ == "__main__":
    main()
