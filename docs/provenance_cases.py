"""The submissions that the provenance table judges: honest ones, and one cheat of each kind.

A case makes a quantized model from a world: a reference, its calibration set and a seed. What the
submitter does stands here; what the checker then knows is the world and the ledger alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from edgebench.record import TransformStep
from edgebench.transform import apply_transform, parse_transform
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.quantized import Folded, QuantizedModel, open_reference
from edgebench_kernels.formats import choose_group, dequantize
from edgebench_kernels.quantize import quantize_rtn

PERTURBATION = 1e-3  # relative, of every linear's weights: another reference of the same kind
LEARNING_RATE = 1e-4
Weights = dict[str, NDArray[np.float16]]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a seed draws, and both sides know: a reference's folder and its calibration set."""

    folder: Path
    sequences: Sequence[Sequence[int]]
    samples: int
    seed: int

    def calibration(self, first: int = 0) -> CalibrationSet:
        """The set in its order, beginning at a sequence."""
        return CalibrationSet(sha256="0" * 64, sequences=self.sequences[first:])


def draw_world(source: Path, sequences: Sequence[Sequence[int]], seed: int, room: Path) -> World:
    """A reference with every linear perturbed, and a calibration set in another order and count."""
    draw = np.random.default_rng(seed)
    folder = room / f"world-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "config.json", folder)
    weights = load_file(source / "model.safetensors")
    for name in sorted(weights):
        if is_linear(name):
            noise = 1 + PERTURBATION * draw.standard_normal(weights[name].shape)
            weights[name] = (weights[name] * noise).astype(np.float16)
    save_file(weights, folder / "model.safetensors")
    order = draw.permutation(len(sequences))
    return World(
        folder=folder,
        sequences=[list(sequences[i]) for i in order],
        samples=int(draw.choice([32, 48, 64])),
        seed=seed,
    )


def is_linear(name: str) -> bool:
    """Whether a checkpoint's tensor is the weight of a linear layer."""
    return name.endswith(("_proj.weight", "lm_head.weight"))


def with_samples(chain: str, samples: int) -> str:
    """The chain with the count of samples in each step that takes one."""
    steps = []
    for step in chain.split("+"):
        glue = "," if ":" in step else ":"
        steps.append(step if step.startswith("rtn") else f"{step}{glue}samples={samples}")
    return "+".join(steps)


def quantized(
    world: World, chain: str, *, folder: Path | None = None, first: int = 0
) -> QuantizedModel:
    """Quantize the world's reference, or another; calibrated on the set from a sequence on."""
    reference = open_reference((folder or world.folder) / "model.safetensors", "0" * 64)
    parsed = parse_transform(with_samples(chain, world.samples))
    return apply_transform(parsed, reference, calibration=world.calibration(first))


def honest(chain: str) -> Callable[[World], QuantizedModel]:
    """By the seed: on one thread, on two, or all of it in float64."""

    def make(world: World) -> QuantizedModel:
        threads = torch.get_num_threads()
        is_two = world.seed % 10 == 1
        torch.set_num_threads(2 if is_two else 1)
        try:
            if is_two or world.seed % 3 != 2:
                return quantized(world, chain)
            with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
                model = quantized(world, chain)
        finally:
            torch.set_num_threads(threads)
        scales = {name: a.astype(np.float32) for name, a in model.folded.scales.items()}
        return replace(model, folded=Folded(norms=model.folded.norms, scales=scales))

    return make


def altered(
    chain: str, change: Callable[[World, Weights], Weights]
) -> Callable[[World], QuantizedModel]:
    """Honest quantization of a reference that was changed first."""

    def make(world: World) -> QuantizedModel:
        folder = world.folder / "altered"
        folder.mkdir(exist_ok=True)
        shutil.copy(world.folder / "config.json", folder)
        weights = change(world, load_file(world.folder / "model.safetensors"))
        save_file(weights, folder / "model.safetensors")
        return quantized(world, chain, folder=folder)

    return make


def pruned(share: float) -> Callable[[World, Weights], Weights]:
    """The smallest weights of each linear set to 0."""

    def change(world: World, weights: Weights) -> Weights:
        for name in filter(is_linear, weights):
            size = np.abs(weights[name])
            weights[name][size < np.quantile(size.astype(np.float32), share)] = 0
        return weights

    return change


def rounded_away(world: World, weights: Weights) -> Weights:
    """Whatever rounding sends to 0 anyway is 0 before."""
    for name in filter(is_linear, weights):
        group = choose_group(weights[name].shape[1])
        weights[name][dequantize(quantize_rtn(weights[name], group)) == 0] = 0
    return weights


def two_of_four(world: World, weights: Weights) -> Weights:
    """The two smallest of every four inputs set to 0."""
    for name in filter(is_linear, weights):
        grouped = weights[name].reshape(-1, 4)
        np.put_along_axis(grouped, np.argsort(np.abs(grouped), axis=1)[:, :2], 0, axis=1)
    return weights


def swapped(world: World, weights: Weights) -> Weights:
    """Layers 0 and 1 change places."""
    first, second = "model.layers.0.", "model.layers.1."
    names = {name: name.replace(first, second) for name in weights if name.startswith(first)}
    names |= {new: old for old, new in names.items()}
    return {name: weights[names.get(name, name)] for name in weights}


def another(world: World, weights: Weights) -> Weights:
    """A reference of another seed."""
    draw = np.random.default_rng(1000 + world.seed)
    for name in filter(is_linear, sorted(weights)):
        noise = 1 + PERTURBATION * draw.standard_normal(weights[name].shape)
        weights[name] = (weights[name] * noise).astype(np.float16)
    return weights


def tuned(steps: int) -> Callable[[World, Weights], Weights]:
    """Adam on the calibration sequences; every linear learns."""

    def change(world: World, weights: Weights) -> Weights:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(world.folder, dtype=torch.float32)
        learned = {name: p for name, p in model.named_parameters() if is_linear(name)}
        optimizer = torch.optim.Adam(learned.values(), lr=LEARNING_RATE)
        for step in range(steps):
            batch = [world.sequences[(8 * step + i) % len(world.sequences)] for i in range(8)]
            losses = [
                model(ids, labels=ids).loss for ids in map(torch.tensor, ([row] for row in batch))
            ]
            optimizer.zero_grad()
            (sum(losses) / len(losses)).backward()
            optimizer.step()
        for name, parameter in learned.items():
            weights[name] = parameter.detach().half().numpy()
        return weights

    return change


def other_data(chain: str) -> Callable[[World], QuantizedModel]:
    """Calibrated on the second half of the set, declared as the first samples."""
    return lambda world: quantized(world, chain, first=len(world.sequences) // 2)


def declared(did: str, said: str) -> Callable[[World], QuantizedModel]:
    """One recipe done, another one's parameters in the ledger."""

    def make(world: World) -> QuantizedModel:
        model = quantized(world, did)
        steps = quantized(world, said).steps
        return replace(model, steps=_said(steps, model.steps))

    return make


def _said(said: Sequence[TransformStep], did: Sequence[TransformStep]) -> tuple[TransformStep, ...]:
    """The declared steps, with the choices that were made where both have a search."""
    choices = {step.transform: step.choices for step in did}
    return tuple(
        step.model_copy(update={"choices": choices.get(step.transform, step.choices)})
        for step in said
    )


def wider(chain: str) -> Callable[[World], QuantizedModel]:
    """Every group's scale 1 % wider, codes as they were."""

    def make(world: World) -> QuantizedModel:
        model = quantized(world, chain)
        tensors = {
            name: replace(tensor, scale=(tensor.scale * np.float16(1.01)).astype(np.float16))
            for name, tensor in model.tensors.items()
        }
        return replace(model, tensors=tensors)

    return make


def moved_norms(chain: str) -> Callable[[World], QuantizedModel]:
    """Norms 1 % larger than the scales allow: a bias for every channel, for free."""

    def make(world: World) -> QuantizedModel:
        model = quantized(world, chain)
        norms = {
            name: (a * np.float16(1.01)).astype(np.float16)
            for name, a in model.folded.norms.items()
        }
        return replace(model, folded=Folded(norms=norms, scales=model.folded.scales))

    return make


HONEST = {
    "rtn": honest("rtn"),
    "rtn, symmetric": honest("rtn:symmetric=true"),
    "awq without clip": honest("awq:clip=false"),
    "awq": honest("awq"),
    "smoothquant": honest("smoothquant"),
    "gptq": honest("gptq"),
    "awq+gptq": honest("awq+gptq"),
    "smoothquant+gptq": honest("smoothquant+gptq"),
}
HARMLESS = {"pruned where rtn gives 0 anyway, rtn": altered("rtn", rounded_away)}
CHEATS = {
    "10 % magnitude-pruned, rtn": altered("rtn", pruned(0.1)),
    "50 % magnitude-pruned, rtn": altered("rtn", pruned(0.5)),
    "2:4-pruned, rtn": altered("rtn", two_of_four),
    "2:4-pruned, gptq": altered("gptq", two_of_four),
    "fine-tuned 1 step, rtn": altered("rtn", tuned(1)),
    "fine-tuned 20 steps, rtn": altered("rtn", tuned(20)),
    "fine-tuned 1 step, gptq": altered("gptq", tuned(1)),
    "fine-tuned 20 steps, gptq": altered("gptq", tuned(20)),
    "layers 0 and 1 swapped, rtn": altered("rtn", swapped),
    "another reference, rtn": altered("rtn", another),
    "another reference, gptq": altered("gptq", another),
    "other calibration set, awq": other_data("awq"),
    "other calibration set, smoothquant": other_data("smoothquant"),
    "other calibration set, gptq": other_data("gptq"),
    "rtn declared as gptq": declared("rtn", "gptq"),
    "gptq declared as rtn": declared("gptq", "rtn"),
    "damping 0.05 declared as 0.01": declared("gptq:damping=0.05", "gptq"),
    "columns in order, declared act_order": declared("gptq:act_order=false", "gptq"),
    "scales 1 % wider, rtn": wider("rtn"),
    "scales 1 % wider, gptq": wider("gptq"),
    "norms 1 % larger, awq": moved_norms("awq:clip=false"),
}
