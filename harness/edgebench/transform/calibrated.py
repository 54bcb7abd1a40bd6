"""The calibrated transforms' driver: one layer at a time, from the embedding to lm_head.

Per layer: a smoother (AWQ, SmoothQuant) sees the inputs that the reference computes and folds its
scales; then every linear is rounded, to nearest or by a rounder (GPTQ), which sees the inputs that
the model quantized so far computes, within a layer too. Only one layer's weights are held, beside
the hidden states of the calibration set, so a model of 1B parameters fits in 8 GiB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgebench.errors import SpecError
from edgebench.transform.fold import Choice, GroupView, apply_fold, feeder_rows
from edgebench.transform.gptq import Learned
from edgebench.transform.grid import (
    Grid,
    GridForm,
    check_weight,
    fit_grid,
    nearest_codes,
    to_int4,
    values_of,
)
from edgebench.transform.llama_layer import Layer, Prompts, rms_norm, walk
from edgebench.transform.quantized import BIAS, HEAD, Linears
from edgebench.transform.scale_groups import HEAD_GROUP, LINEARS, SCALE_GROUPS, ScaleGroup
from edgebench_kernels.engine.fused_tensors import concat_rows
from edgebench_kernels.engine.weights import EMBEDDING, FINAL_NORM, LM_HEAD
from edgebench_kernels.formats import Int4Tensor

Progress = Callable[[int, int], None]


class Smoother(Protocol):
    """Chooses equivalence scales, and the grids of what was folded."""

    def handles(self, group: ScaleGroup) -> bool:
        """Whether it scales this group at all."""

    def search(self, view: GroupView) -> Choice:
        """The scales of one group."""

    def grid(self, name: str, weight: Tensor, x: Tensor, form: GridForm) -> Grid:
        """The grids of a folded weight [N, K] that reads x [S, K]."""


class Rounder(Protocol):
    """Chooses codes on fixed grids with the inputs in view."""

    def learn(self, x: Tensor) -> Learned:
        """What it needs of the inputs [S, K], shared by their readers."""

    def codes(self, weight: Tensor, grid: Grid, learned: Learned) -> Tensor:
        """Codes uint8 [N, K]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What is done to every layer; both parts None is round-to-nearest."""

    form: GridForm
    smoother: Smoother | None = None
    rounder: Rounder | None = None


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of it, by module path."""

    tensors: dict[str, Int4Tensor] = field(default_factory=dict)
    norms: dict[str, npt.NDArray[np.float16]] = field(default_factory=dict)
    """Norm weights that carry scales, fp16 [C]."""
    biases: dict[str, npt.NDArray[np.float16]] = field(default_factory=dict)
    """Biases of linears whose outputs were divided, fp16 [N]."""
    scales: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Feeder -> the scale that its outputs were divided by, float32 [its outputs]."""
    exponents: dict[str, float] = field(default_factory=dict)
    """Feeder -> the exponent that was chosen."""


def quantize(
    reference: Linears,
    sequences: Sequence[Sequence[int]],
    method: Method,
    *,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
) -> Outcome:
    """Quantize a checkpoint of the Llama family; lm_head where the reference names it.

    Raises SpecError for weights that are not finite, a shape without a group, or a config that is
    not Llama's; RunFailed where a Hessian has no factor.
    """
    if not sequences or not all(sequences):
        raise SpecError("[transform] expected calibration sequences, got none or an empty one")
    with torch.inference_mode():
        run = _Run(reference, sequences, method, progress, torch.device(device))
        run.layers()
        if HEAD in reference.names:
            run.head()
    return run.outcome


def load_tensors(reference: Linears, prefix: str, device: torch.device) -> dict[str, Tensor]:
    """The checkpoint's tensors below a prefix, which their names lose."""
    return {
        name.removeprefix(prefix): reference.tensor(name).to(device)
        for name in reference.tensor_names
        if name.startswith(prefix)
    }


class _Run:
    """One quantization as it goes through the layers."""

    def __init__(
        self,
        reference: Linears,
        sequences: Sequence[Sequence[int]],
        method: Method,
        progress: Progress | None,
        device: torch.device,
    ) -> None:
        self.outcome = Outcome()
        self._reference, self._method, self._device = reference, method, device
        self._config = reference.config()
        self._prompts = Prompts(self._config, [len(ids) for ids in sequences], device)
        embedding = load_tensors(reference, EMBEDDING, device)[""]
        ids = torch.tensor([token for ids in sequences for token in ids], device=device)
        self._exact = embedding[ids].float()
        """Hidden states f32 [S, C] as the reference computes them; a smoother learns from them."""
        self._rough = self._exact
        """The same as the model quantized so far computes them; a rounder learns from them."""
        groups = len(SCALE_GROUPS) if method.smoother else 0
        head = (1 + bool(groups)) * (HEAD in reference.names)
        self._total = self._config.layers * (groups + len(LINEARS)) + head
        self._progress = progress
        self._done = 0

    def layers(self) -> None:
        """Quantize the decoder's layers, first to last."""
        for index in range(self._config.layers):
            prefix = f"model.layers.{index}."
            layer = Layer(self._config, load_tensors(self._reference, prefix, self._device))
            for name in LINEARS:
                check_weight(prefix + name, layer.weight(name))
            layer, grids = self._smoothed(prefix, layer, SCALE_GROUPS, self._inputs(layer))
            parts = self._rounded(layer, grids)
            for source, names in layer.sources().items():
                joined = concat_rows(names, [parts[name] for name in names])
                self.outcome.tensors[prefix + source] = joined

    def head(self) -> None:
        """Quantize lm_head behind the last norm."""
        key = EMBEDDING if self._config.is_tied else LM_HEAD
        tensors = {
            FINAL_NORM: load_tensors(self._reference, FINAL_NORM, self._device)[""],
            LM_HEAD: load_tensors(self._reference, key, self._device)[""],
        }
        layer = Layer(self._config, tensors)
        check_weight("lm_head", layer.weight("lm_head"))
        inputs = {HEAD_GROUP.feeder: self._last_norm(layer, self._exact)}
        layer, grids = self._smoothed("", layer, (HEAD_GROUP,), inputs)
        x = self._last_norm(layer, self._rough)
        self.outcome.tensors |= self._codes(layer, HEAD_GROUP, grids, x)

    def _last_norm(self, layer: Layer, hidden: Tensor) -> Tensor:
        return rms_norm(hidden, layer.weight(HEAD_GROUP.feeder), self._config.rms_norm_eps)

    def _inputs(self, layer: Layer) -> dict[str, Tensor]:
        """What a layer's linears read in the reference, by feeder; nothing without a smoother."""
        inputs: dict[str, Tensor] = {}
        if self._method.smoother is not None:
            self._exact = walk(
                layer, self._exact, self._prompts, lambda group, x: inputs.update({group.feeder: x})
            )
        return inputs

    def _smoothed(
        self,
        prefix: str,
        layer: Layer,
        groups: tuple[ScaleGroup, ...],
        inputs: dict[str, Tensor],
    ) -> tuple[Layer, dict[str, Grid]]:
        """The layer with its scales folded, and the grids of every linear; consumes the inputs."""
        smoother, form = self._method.smoother, self._method.form
        if smoother is None:
            names = [name for group in groups for name in group.readers]
            return layer, {name: fit_grid(layer.weight(name), form) for name in names}
        choices: list[tuple[ScaleGroup, Choice]] = []
        for group in groups:
            if smoother.handles(group):
                x = inputs[group.feeder]
                view = GroupView(group=group, layer=layer, x=x, form=form)
                choices.append((group, smoother.search(view)))
                inputs[group.feeder] = x / choices[-1][1].scale
            self._step()
        folded = layer.copy()
        for group, choice in choices:
            self._fold(prefix, folded, group, choice)
        grids = {}
        for group in groups:
            x = inputs.pop(group.feeder)
            for name in group.readers:
                grids[name] = smoother.grid(name, folded.weight(name), x, form)
        return folded, grids

    def _fold(self, prefix: str, folded: Layer, group: ScaleGroup, choice: Choice) -> None:
        """Fold a choice, and note what a verifier needs to compute it again."""
        apply_fold(folded, group, choice.scale)
        path = prefix + group.feeder
        self.outcome.exponents[path] = choice.exponent
        self.outcome.scales[path] = feeder_rows(choice.scale, group, folded).cpu().numpy()
        if group.feeder_is_norm:
            self.outcome.norms[path] = folded.weight(group.feeder).half().cpu().numpy()
        bias = folded.tensors.get(group.feeder + BIAS)
        if bias is not None:
            self.outcome.biases[path] = bias.half().cpu().numpy()

    def _rounded(self, layer: Layer, grids: Mapping[str, Grid]) -> dict[str, Int4Tensor]:
        """Every linear of a folded layer as INT4; a rounder goes on with what it rounded."""
        parts: dict[str, Int4Tensor] = {}
        if self._method.rounder is None:
            for group in SCALE_GROUPS:
                parts |= self._codes(layer, group, grids, None)
        else:
            self._rough = walk(
                layer,
                self._rough,
                self._prompts,
                lambda group, x: parts.update(self._codes(layer, group, grids, x)),
            )
        return parts

    def _codes(
        self, layer: Layer, group: ScaleGroup, grids: Mapping[str, Grid], x: Tensor | None
    ) -> dict[str, Int4Tensor]:
        """A group's readers as INT4; x [S, K] is what they read in the model quantized so far."""
        rounder = self._method.rounder
        learned = rounder.learn(x) if rounder is not None and x is not None else None
        made = {}
        for name in group.readers:
            weight, grid = layer.weight(name), grids[name]
            if rounder is None or learned is None:
                codes = nearest_codes(weight, grid)
            else:
                codes = rounder.codes(weight, grid, learned)
                layer.replace(name, values_of(codes, grid))
            made[name] = to_int4(codes, grid)
            self._step()
        return made

    def _step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
