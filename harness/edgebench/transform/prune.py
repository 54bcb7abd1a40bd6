"""The pruning driver: one layer at a time, each with what the model pruned so far computes.

The linears of the decoder's layers are pruned, the embedding and lm_head are not, as in the papers.
Weights are rounded to fp16, as they are stored, before anything is computed from them. No step
draws random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from edgebench.errors import SpecError
from edgebench.transform import heads, layers, magnitude, units
from edgebench.transform.grid import check_weight
from edgebench.transform.llama_layer import Layer, Prompts, Visit, walk
from edgebench.transform.masks import keep_highest
from edgebench.transform.pruning import UNIT, Pattern, PruneRequest, kept_count
from edgebench.transform.refit import refitted
from edgebench.transform.scale_groups import FUSED, LINEARS, ScaleGroup
from edgebench.transform.sparsegpt import SparseGpt
from edgebench.transform.wanda import Wanda
from edgebench_kernels.engine import LlamaConfig, LlamaWeights

EMBEDDING = "model.embed_tokens.weight"

Progress = Callable[[int, int], None]
Sequences = Sequence[Sequence[int]]


class Masker(Protocol):
    """Sets weights to zero with the inputs in view."""

    def learn(self, x: Tensor) -> Any:
        """What it needs of the inputs [S, K], shared by their readers."""

    def pruned(self, weight: Tensor, learned: Any) -> Tensor:
        """The pruned weight [N, K]."""


def prune(
    weights: LlamaWeights,
    request: PruneRequest,
    sequences: Sequences,
    progress: Progress | None = None,
) -> LlamaWeights:
    """Prune a checkpoint by one step; `sequences` are calibration tokens, unused by magnitude.

    Raises SpecError for a pattern that does not divide and for weights that are not finite;
    RunFailed where SparseGPT's Hessian has no factor.
    """
    _check(weights)
    with torch.inference_mode():
        if request.method == "magnitude":
            return _by_magnitude(weights, request)
        run = _Run(weights, sequences, progress)
        if request.method in ("heads", "units"):
            made = _structured(run, request)
        elif request.method == "layers":
            made = _shallower(run, request.count)
        else:
            made = _masked(run, _masker(request))
    return made


def _check(weights: LlamaWeights) -> None:
    if any(f".{name}.weight" in key for key in weights.tensors for name in FUSED):
        raise SpecError("[prune] expected q, k, v, gate and up as tensors of their own, got fused")
    for name, tensor in weights.linears().items():
        check_weight(name, tensor)


def _pattern(request: PruneRequest) -> Pattern:
    if request.pattern is None:
        raise SpecError(f"[prune] expected a pattern for {request.method}, got none")
    return request.pattern


def _masker(request: PruneRequest) -> Masker:
    pattern = _pattern(request)
    if request.method == "wanda":
        return Wanda(pattern=pattern)
    return SparseGpt(pattern=pattern, damping=request.damping)


def _by_magnitude(weights: LlamaWeights, request: PruneRequest) -> LlamaWeights:
    body = {name: w for name, w in weights.linears().items() if name.startswith("model.layers.")}
    made = magnitude.pruned(body, _pattern(request), request.scope)
    return replace(weights, tensors={**weights.tensors, **made})


@dataclass(slots=True)
class _Run:
    """The calibration tokens on their way through the layers."""

    weights: LlamaWeights
    hidden: Tensor
    prompts: Prompts
    progress: Progress | None

    def __init__(
        self, weights: LlamaWeights, sequences: Sequences, progress: Progress | None
    ) -> None:
        if not sequences or not all(sequences):
            raise SpecError("[prune] expected calibration sequences, got none or an empty one")
        self.weights, self.progress = weights, progress
        ids = torch.tensor([token for own in sequences for token in own])
        self.hidden = weights.tensors[EMBEDDING][ids].float()
        self.prompts = Prompts(weights.config, [len(own) for own in sequences], ids.device)

    def layer(self, index: int) -> Layer:
        """One layer in float32."""
        prefix = prefix_of(index)
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in self.weights.tensors.items()
            if name.startswith(prefix)
        }
        return Layer(self.weights.config, own)

    def walk(self, layer: Layer, visit: Visit | None = None) -> Tensor:
        """The hidden states behind a layer."""
        return walk(layer, self.hidden, self.prompts, visit)

    def went(self, index: int) -> None:
        """Say that a layer is done."""
        if self.progress is not None:
            self.progress(index + 1, self.weights.config.layers)


def prefix_of(index: int) -> str:
    """What the names of a layer's tensors begin with."""
    return f"model.layers.{index}."


def _masked(run: _Run, masker: Masker) -> LlamaWeights:
    tensors = dict(run.weights.tensors)
    for index in range(run.weights.config.layers):
        layer = run.layer(index)

        def visit(group: ScaleGroup, x: Tensor, layer: Layer = layer) -> None:
            learned = masker.learn(x)
            for name in group.readers:
                made = masker.pruned(layer.weight(name), learned)
                check_weight(name, made.half())
                layer.replace(name, made.half().float())

        run.hidden = run.walk(layer, visit)
        for name in LINEARS:
            tensors[f"{prefix_of(index)}{name}.weight"] = layer.weight(name).half()
        run.went(index)
    return replace(run.weights, tensors=tensors)


def _structured(run: _Run, request: PruneRequest) -> LlamaWeights:
    """Cut the same number of heads or units out of every layer."""
    method = heads if request.method == "heads" else units
    config, smaller = run.weights.config, _smaller(run.weights.config, request)
    count = config.kv_heads if method is heads else config.intermediate_size
    left = smaller.kv_heads if method is heads else smaller.intermediate_size
    tensors = dict(run.weights.tensors)
    for index in range(config.layers):
        layer = run.layer(index)
        seen: dict[str, Tensor] = {}

        def see(group: ScaleGroup, x: Tensor, seen: dict[str, Tensor] = seen) -> None:
            seen[group.feeder] = x

        run.walk(layer, see)
        x = seen[method.READS]
        keep = keep_highest(method.scores(layer, x), count - left)
        whole, inputs = layer.weight(method.READER), method.inputs(layer, keep)
        method.cut(layer, keep)
        if request.refit:
            made = refitted(whole, x, inputs).half()
            check_weight(method.READER, made)
            layer.replace(method.READER, made.float())
        run.hidden = run.walk(layer)
        for name, tensor in layer.tensors.items():
            tensors[prefix_of(index) + name] = tensor.half()
        run.went(index)
    return LlamaWeights(config=smaller, tensors=tensors)


def _smaller(config: LlamaConfig, request: PruneRequest) -> LlamaConfig:
    """The shape that a structured step leaves; SpecError where the share does not divide."""
    if request.method == "units":
        return replace(
            config,
            intermediate_size=kept_count(
                "FFN units", config.intermediate_size, request.share, UNIT
            ),
        )
    left = kept_count("key-value heads", config.kv_heads, request.share)
    smaller = replace(config, heads=left * (config.heads // config.kv_heads), kv_heads=left)
    if smaller.query_size % UNIT:
        raise SpecError(
            f"[prune] expected heads to leave a multiple of {UNIT} inputs of o_proj, got "
            f"{smaller.query_size}; remove another share"
        )
    return smaller


def _shallower(run: _Run, count: int) -> LlamaWeights:
    """Take the layers of least influence out, and number the others anew."""
    config = run.weights.config
    influences = []
    for index in range(config.layers):
        after = run.walk(run.layer(index))
        influences.append(layers.influence(run.hidden, after))
        run.hidden = after
        run.went(index)
    stay = layers.kept(influences, count)
    tensors = {k: t for k, t in run.weights.tensors.items() if not k.startswith("model.layers.")}
    tensors |= _renumbered(run.weights.tensors, stay)
    return LlamaWeights(config=replace(config, layers=len(stay)), tensors=tensors)


def _renumbered(tensors: Mapping[str, Tensor], stay: Sequence[int]) -> dict[str, Tensor]:
    return {
        prefix_of(place) + name.removeprefix(prefix_of(index)): tensor
        for place, index in enumerate(stay)
        for name, tensor in tensors.items()
        if name.startswith(prefix_of(index))
    }
