"""Small checkpoints on disk, made by transformers, and what transformers computes from them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

# Tied with grouped queries; untied with a head_dim of its own; one query head per kv head.
SHAPES = {
    "tied": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "untied": {
        "hidden_size": 96,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    },
    "ungrouped": {
        "hidden_size": 64,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-3,
        "tie_word_embeddings": True,
    },
}
VOCABULARY = 211


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny products gain nothing from a second thread and suffer where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Shape's name -> Hugging Face directory with random fp16 weights."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import LlamaConfig, LlamaForCausalLM

    directories = {}
    for seed, (name, shape) in enumerate(SHAPES.items()):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            intermediate_size=128,
            num_hidden_layers=3,
            max_position_embeddings=128,
            **shape,
        )
        model = LlamaForCausalLM(config)
        # Norms that are not 1 and weights large enough for distinct answers.
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        directories[name] = tmp_path_factory.mktemp(name)
        model.half().save_pretrained(directories[name])
    return directories


@pytest.fixture(params=list(SHAPES))
def checkpoint(request, checkpoints) -> Path:
    """Each of the checkpoints in turn."""
    return checkpoints[request.param]


@pytest.fixture
def tied(checkpoints) -> Path:
    """The tied checkpoint, where one is enough."""
    return checkpoints["tied"]


@pytest.fixture(scope="session")
def reference_of():
    """Load a directory with transformers in fp32, once."""
    from transformers import LlamaForCausalLM

    loaded = {}

    def load(directory: Path):
        if directory not in loaded:
            model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
            loaded[directory] = model.eval()
        return loaded[directory]

    return load


@pytest.fixture
def prompts() -> list[list[int]]:
    """Six prompts of different length, 1 to 30 tokens."""
    generator = torch.Generator().manual_seed(11)
    return [
        torch.randint(0, VOCABULARY, (length,), generator=generator).tolist()
        for length in (5, 17, 1, 30, 30, 8)
    ]
