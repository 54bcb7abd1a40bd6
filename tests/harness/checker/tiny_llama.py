"""A Llama of two layers that the checker can run, and bundles of what transforms make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from edgebench.checker.known import known_model
from edgebench.transform import apply_transform, parse_transform
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.quantized import QuantizedModel, ReferenceLinears, folded_hashes
from edgebench_kernels.formats import tensor_sha256
from tests.harness.checker.conftest import Maker
from tests.transform.conftest import write_checkpoint

CHAINS = (
    "rtn:group=32",
    "awq:samples=12",
    "awq:group=32,samples=12,clip=false",
    "smoothquant:samples=12",
    "smoothquant:samples=12,alpha=0.7",
    "gptq:group=32,samples=12",
    "gptq:samples=12,act_order=false,symmetric=true",
    "awq:group=32,samples=12+gptq:damping=0.05",
    "smoothquant:samples=12+gptq",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyWorld:
    """A reference and its calibration set, which both sides know."""

    folder: Path
    reference: ReferenceLinears
    sequences: list[list[int]]

    @classmethod
    def write(cls, folder: Path, **changes: Any) -> TinyWorld:
        """Write the checkpoint; `changes` go into its config."""
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(1)
        sequences = [draw.integers(0, 50, n).tolist() for n in (5, 9, 17, 3) * 6]
        reference = replace(write_checkpoint(folder, **changes), sha256="a" * 64)
        return cls(folder=folder, reference=reference, sequences=sequences)

    def quantized(
        self, chain: str, *, reference: ReferenceLinears | None = None, first: int = 0
    ) -> QuantizedModel:
        """What an honest submitter makes, or one with another reference or another set."""
        calibration = CalibrationSet(sha256="3" * 64, sequences=self.sequences[first:])
        return apply_transform(
            parse_transform(chain), reference or self.reference, calibration=calibration
        )

    def altered(self, name: str, change: Callable[[Any], Any]) -> ReferenceLinears:
        """Another checkpoint, of which one tensor is changed."""
        from safetensors.numpy import save_file

        folder = self.folder / "altered"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_bytes((self.folder / "config.json").read_bytes())
        tensors = load_file(self.folder / "model.safetensors")
        tensors[name] = change(tensors[name])
        save_file(tensors, folder / "model.safetensors")
        return replace(self.reference, path=folder / "model.safetensors")


def submit(maker: Maker, world: TinyWorld, chain: str, model: QuantizedModel) -> None:
    """Make the bundle one of this model, declared as this chain."""
    shapes = {name: tensor.shape for name, tensor in model.tensors.items()}
    maker.workload = replace(
        maker.workload,
        reference=world.reference,
        shapes=shapes,
        model=known_model(world.folder, world.sequences),
    )
    maker.tensors = dict(model.tensors)
    file_model(maker, model)
    weights = sum(n * k for n, k in shapes.values())
    for row in maker.ceilings:  # a machine that reads the larger model as fast as the smaller one
        row["value"] *= 2 * weights / maker.weights
    maker.weights = weights
    maker.transform = chain
    maker.derive()


def file_model(maker: Maker, model: QuantizedModel) -> None:
    """Let the ledger and the folded file be those of a model."""
    maker.folded = {name: np.asarray(array) for name, array in model.folded.arrays().items()}
    maker.ledger["folded"] = folded_hashes(model.folded)
    maker.ledger["steps"] = [step.model_dump() for step in model.steps]
    maker.ledger["tensors"] = {name: tensor_sha256(t) for name, t in model.tensors.items()}
