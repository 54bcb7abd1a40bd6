"""Models of a few kilobytes as Hugging Face directories, with a tokenizer of bytes and a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = "The quick brown fox jumps over the lazy dog. Zwölf Boxkämpfer jagen Viktor. " * 4
SHAPE = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def write_model(directory: Path, model_type: str = "llama", **change: Any) -> Any:
    """Write a model with random fp16 weights; returns it in fp32."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    config = AutoConfig.for_model(model_type, **{**SHAPE, **change})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        parameter.data = (parameter.data + 0.05 * torch.randn_like(parameter)).half().float()
    model.half().save_pretrained(directory)
    write_tokenizer(directory)
    # Loaded again: the frequencies of RoPE went through fp16 with the weights.
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def write_tokenizer(directory: Path) -> None:
    """One token a byte."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(directory / "tokenizer.json"))
