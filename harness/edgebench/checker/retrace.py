"""The submission retraced, layer by layer: from the reference and the calibration set to each code.

Two sets of hidden states go through the layers, as they went through the transform: those of the
reference, which scales are learned from, and those of the submission as it is, which error feedback
saw. One layer's weights are held at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgebench.checker.codes import Feedback, Judged, judge, learn
from edgebench.checker.llama import Floats, Layer, Sequences, walk
from edgebench.checker.recipe import Recipe
from edgebench.checker.scales import Scaled, examine, fold, handles, statistic
from edgebench.transform.constants import NOT_CLIPPED
from edgebench.transform.scale_groups import HEAD_GROUP, LINEARS, SCALE_GROUPS, ScaleGroup
from edgebench_kernels.engine.config import LlamaConfig
from edgebench_kernels.formats import Int4Tensor, dequantize

EMBEDDING, LM_HEAD = "model.embed_tokens.weight", "lm_head.weight"

Update = Callable[[int, int], None]
Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """What the checker needs of a reference to run it, and what to run it on."""

    config: LlamaConfig
    names: frozenset[str]
    """Of the checkpoint's tensors."""
    tensor: Callable[[str], npt.NDArray[np.float16]] = field(repr=False)
    """One of them, by name."""
    sequences: Sequence[Sequence[int]] = field(repr=False)
    """The calibration set's token ids, in its own order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is held against the reference."""

    recipe: Recipe
    tensor: Callable[[str], Int4Tensor]
    """By module path; sane (rule W-05)."""
    folded: Arrays
    """What lies in folded.safetensors, by name."""


def scaled_paths(config: LlamaConfig, recipe: Recipe) -> dict[str, bool]:
    """Every feeder that the recipe's smoother scales, and whether it is a norm."""
    layers = [
        (f"model.layers.{index}.", group)
        for index in range(config.layers)
        for group in SCALE_GROUPS
    ]
    return {
        prefix + group.feeder: group.feeder_is_norm
        for prefix, group in [*layers, ("", HEAD_GROUP)]
        if handles(recipe, group)
    }


def retrace(model: KnownModel, submission: Submission, update: Update) -> Iterator[Scaled | Judged]:
    """Judge every scale and every tensor, in the order of execution.

    Raises ValueError for a tensor that cannot be read, LinAlgError where a Hessian has no factor.
    """
    run = _Retrace(model, submission, update)
    for index in range(model.config.layers):
        yield from run.layer(f"model.layers.{index}.")
    yield from run.head()


class _Retrace:
    """One pass through the layers."""

    def __init__(self, model: KnownModel, submission: Submission, update: Update) -> None:
        self._model, self._submission, self._update = model, submission, update
        self._recipe = submission.recipe
        used = model.sequences[: self._recipe.samples] if self._recipe.needs_data else [[0]]
        self._sequences = Sequences(model.config, used)
        hidden = model.tensor(EMBEDDING)[self._sequences.ids].astype(np.float32)
        self._exact = self._rough = hidden
        self._done, self._total = 0, model.config.layers * len(LINEARS) + 1

    def layer(self, prefix: str) -> Iterator[Scaled | Judged]:
        names = (name for name in self._model.names if name.startswith(prefix))
        tensors = {name.removeprefix(prefix): self._float(name) for name in names}
        layer = Layer(self._model.config, tensors)
        statistics: dict[str, Floats] = {}
        if self._recipe.smooth is not None:
            self._exact = walk(
                layer,
                self._exact,
                self._sequences,
                lambda group, x: statistics.update({group.feeder: statistic(self._recipe, x)}),
            )
        folded = layer.copy()
        yield from self._fold(prefix, layer, folded, SCALE_GROUPS, statistics)
        found: list[Judged] = []
        if self._recipe.feedback is None:
            for group in SCALE_GROUPS:
                found += self._group(prefix, folded, group, None)
        else:
            self._rough = walk(
                folded,
                self._rough,
                self._sequences,
                lambda group, x: found.extend(self._group(prefix, folded, group, x)),
            )
        yield from found

    def head(self) -> Iterator[Scaled | Judged]:
        key = EMBEDDING if self._model.config.is_tied else LM_HEAD
        norm = f"{HEAD_GROUP.feeder}.weight"
        tensors = {norm: self._float(norm), LM_HEAD: self._float(key)}
        layer = Layer(self._model.config, tensors)
        statistics = {}
        if self._recipe.smooth is not None:
            x = layer.norm(HEAD_GROUP.feeder, self._exact)
            statistics[HEAD_GROUP.feeder] = statistic(self._recipe, x)
        folded = layer.copy()
        yield from self._fold("", layer, folded, (HEAD_GROUP,), statistics)
        is_fed_back = self._recipe.feedback is not None
        x_or_none = folded.norm(HEAD_GROUP.feeder, self._rough) if is_fed_back else None
        yield from self._group("", folded, HEAD_GROUP, x_or_none)

    def _float(self, name: str) -> Floats:
        return self._model.tensor(name).astype(np.float32)

    def _fold(
        self,
        prefix: str,
        layer: Layer,
        folded: Layer,
        groups: tuple[ScaleGroup, ...],
        statistics: Mapping[str, Floats],
    ) -> Iterator[Scaled]:
        for group in groups:
            if handles(self._recipe, group):
                own = statistics[group.feeder]
                arrays = self._submission.folded
                scaled = examine(prefix, group, layer, own, self._recipe, arrays)
                fold(folded, group, scaled.scale)
                yield scaled

    def _group(
        self, prefix: str, layer: Layer, group: ScaleGroup, x: Floats | None
    ) -> list[Judged]:
        """A group's readers; with inputs [S, K], the walk goes on with the submitted weights."""
        feedback: Feedback | None = None if x is None else learn(x, self._recipe)
        found = []
        for name in group.readers:
            tensor = self._submission.tensor(prefix + name)
            found.append(
                judge(
                    prefix + name,
                    layer.weight(name),
                    tensor,
                    self._recipe,
                    is_clipped=self._recipe.clip and name not in NOT_CLIPPED,
                    feedback=feedback,
                )
            )
            if x is not None:
                layer.replace(name, dequantize(tensor))
            self._done += 1
            self._update(self._done, self._total)
        return found
