"""Small real checkpoints of each 4-bit format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from tests.checkpoints.packers import PACKERS, quantization_config  # noqa: E402

GROUP = 32
MODULES = {  # module path -> (N, K); K of one group, of two, of three
    "model.layers.0.self_attn.q_proj": (8, 64),
    "model.layers.0.self_attn.k_proj": (16, 64),
    "model.layers.0.mlp.down_proj": (24, 96),
    "model.layers.0.mlp.up_proj": (40, 32),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a checkpoint was made of."""

    codes: np.ndarray
    scale: np.ndarray
    zero: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A checkpoint on disk, and what is in it."""

    directory: Path
    linears: dict[str, Truth]
    others: dict

    def change_config(self, change: Callable[[dict], None]) -> None:
        path = self.directory / "config.json"
        config = json.loads(path.read_text())
        change(config["quantization_config"])
        path.write_text(json.dumps(config))


def truths(symmetric: bool) -> dict[str, Truth]:
    rng = np.random.default_rng(7)
    made = {}
    for name, (n, k) in MODULES.items():
        zero = rng.integers(0, 16, (n, k // GROUP), dtype=np.uint8)
        made[name] = Truth(
            codes=rng.integers(0, 16, (n, k), dtype=np.uint8),
            scale=rng.lognormal(-4, 1, (n, k // GROUP)).astype(np.float16),
            zero=np.full_like(zero, 8) if symmetric else zero,
        )
    return made


@pytest.fixture
def make_checkpoint(tmp_path):
    """Write one: format's name, symmetric or not; `change` sees each linear's parts first."""

    def make(name: str, *, symmetric: bool = False, change=None) -> Made:
        linears = truths(symmetric)
        others = {
            "model.embed_tokens.weight": torch.arange(48.0).reshape(6, 8).half(),
            "model.norm.weight": torch.ones(8, dtype=torch.bfloat16),
            "model.layers.0.self_attn.q_proj.bias": torch.arange(8.0),
            "lm_head.weight": torch.arange(48.0).reshape(6, 8).half() / 64,
        }
        stored = dict(others)
        for module, truth in linears.items():
            parts = PACKERS[name](truth.codes, truth.scale, truth.zero, GROUP)
            if change is not None:
                change(parts)
            for part, array in parts.items():
                stored[f"{module}.{part}"] = (
                    array if isinstance(array, torch.Tensor) else torch.from_numpy(array)
                )
        directory = tmp_path / "source"
        directory.mkdir()
        save_file(stored, directory / "model.safetensors", metadata={"format": "pt"})
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "bfloat16",
            "quantization_config": quantization_config(name, GROUP, symmetric=symmetric),
        }
        (directory / "config.json").write_text(json.dumps(config))
        return Made(directory=directory, linears=linears, others=others)

    return make
