"""What a track may do to a model: the table of transforms and the grammar that names them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgebench.errors import SpecError, unknown_name
from edgebench.transform import distill, finetuning, nas, pruning, rtn, sharing

if TYPE_CHECKING:
    from edgebench.transform.calibration import CalibrationSet
    from edgebench.transform.quantized import Linears, QuantizedModel

Parameter = int | float | str | bool
Role = Literal["change", "smooth", "round"]
"""change: makes another fp16 model, for the open track, before anything is rounded.
smooth: moves scales between layers, then rounds to nearest unless a `round` follows."""

TRANSFORMS: Mapping[str, Role] = {
    "rtn": "round",
    "awq": "smooth",
    "gptq": "round",
    "smoothquant": "smooth",
    "distill": "change",
    "prune": "change",
    "finetune": "change",
    "nas": "change",
    "share": "change",
}
PARAMETERS: Mapping[str, Mapping[str, type]] = {
    "rtn": rtn.PARAMETERS,
    "awq": {"group": int, "symmetric": bool, "samples": int, "clip": bool},
    "gptq": {
        "group": int, "symmetric": bool, "samples": int, "damping": float, "act_order": bool,
    },
    "smoothquant": {"group": int, "symmetric": bool, "samples": int, "alpha": float},
    "distill": distill.PARAMETERS,
    "prune": pruning.PARAMETERS,
    "finetune": finetuning.PARAMETERS,
    "nas": nas.PARAMETERS,
    "share": sharing.PARAMETERS,
}  # fmt: skip
SUMMARIES: Mapping[str, str] = {
    "rtn": "round to nearest: each group of weights gets its own 4-bit grid; needs no data",
    "awq": "scale what large activations meet, clip each group; awq+gptq rounds by gptq",
    "gptq": "round column by column, later columns make up for each error",
    "smoothquant": "move activation outliers into the weights, for 8-bit activations (w4a8)",
    "distill": "open track: a smaller student, trained from the reference's logits",
    "prune": "open track: remove weights (0.5, 2:4, 4:8), heads, FFN units or layers",
    "finetune": "open track: recover on the training set, towards the reference's logits",
    "nas": "open track, wake: search the supernet for a subnet within latency, memory or macs",
    "share": "open track, wake: few values a layer by k-means, and a Huffman-coded file of them",
}
WORD = re.compile(r"[a-z0-9.:-]{1,20}")
"""A parameter that is a word or a pattern."""
WITHOUT_DATA = frozenset({"rtn"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformSpec:
    """A named transform with its parameters, as written: `rtn` or `rtn:group=64,symmetric=true`."""

    name: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    folder: Path | None = None
    """Of a student that is not shipped; `parameters` then names it by its tensors."""

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        words = (f"{key}={_shown(value)}" for key, value in sorted(self.parameters.items()))
        return f"{self.name}:{','.join(words)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformChain:
    """The transforms of one model, in order, as written: `awq` or `awq:clip=false+gptq`."""

    steps: tuple[TransformSpec, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.steps))

    @property
    def names(self) -> tuple[str, ...]:
        """The transforms' names."""
        return tuple(step.name for step in self.steps)

    @property
    def changes(self) -> tuple[TransformSpec, ...]:
        """The steps that make another fp16 model; they come first."""
        return tuple(step for step in self.steps if TRANSFORMS[step.name] == "change")

    @property
    def rounding(self) -> TransformChain | None:
        """The steps that quantize; None where the model stays fp16."""
        steps = self.steps[len(self.changes) :]
        return TransformChain(steps=steps) if steps else None


def _shown(value: Parameter) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse_value(where: str, text: str, kind: type) -> Parameter:
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is int and text.isdecimal():
        return int(text)
    if kind is float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return value
    if kind is Path and text:
        return text
    if kind is str and WORD.fullmatch(text.lower()):
        return _plain_number(text.lower())
    raise SpecError(f"[transform] expected {where} to be a {kind.__name__}, got {text!r}")


def _plain_number(text: str) -> str:
    """A number in one spelling, so that a ledger can be compared with it; words as they are."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def _parse_step(text: str) -> TransformSpec:
    name, _, rest = text.strip().partition(":")
    if name not in TRANSFORMS:
        raise unknown_name("transform", "transform", name, TRANSFORMS)
    parameters: dict[str, Parameter] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise SpecError(f"[transform] expected key=value after '{name}:', got {item!r}")
        if key not in PARAMETERS[name]:
            raise unknown_name("transform", f"parameter of {name}", key, PARAMETERS[name])
        parameters[key] = _parse_value(f"{name}'s {key}", value, PARAMETERS[name][key])
    return TransformSpec(name=name, parameters=parameters)


def parse_transform(text: str) -> TransformChain:
    """Parse `name`, `name:key=value,...` or several of them joined by `+`.

    Steps that change the model come first; then one that quantizes, or one that smooths and gptq.
    Unknown names and keys raise SpecError, and so does every other order.
    """
    chain = TransformChain(steps=tuple(_parse_step(part) for part in text.split("+")))
    _check_changes(chain)
    if chain.rounding is None:
        return chain
    first, *rest = chain.rounding.names
    if TRANSFORMS[first] == "change" or (
        rest and (TRANSFORMS[first] != "smooth" or rest != ["gptq"])
    ):
        smooth = " or ".join(name for name, role in TRANSFORMS.items() if role == "smooth")
        change = " or ".join(CHANGES)
        raise SpecError(
            f"[transform] expected one transform, or {smooth} followed by +gptq, and {change} "
            f"before them, got {text!r}"
        )
    return chain


def _check_changes(chain: TransformChain) -> None:
    """Read every step that changes the model; cuts come before zeros, whose groups they break."""
    masked = shared = None
    for place, step in enumerate(chain.changes):
        request = CHANGES[step.name](step.parameters)
        if shared is not None and step.name != "finetune":
            raise SpecError(
                f"[transform] expected nothing but finetune behind {shared}, got {step}; "
                "change places"
            )
        shared = step if step.name == sharing.NAME else shared
        if step.name == "distill" and place > 0:
            raise SpecError(
                f"[transform] expected distill first, since it takes the place of the model, got "
                f"{chain}; change places"
            )
        if not isinstance(request, pruning.PruneRequest):
            continue
        if request.pattern is None and masked is not None:
            raise SpecError(
                f"[transform] expected cuts before zeros, got {step} behind {masked}; change places"
            )
        masked = step if request.pattern is not None else masked


CHANGES: Mapping[str, Callable[[Mapping[str, Parameter]], object]] = {
    "distill": distill.read_distill,
    "prune": pruning.read_prune,
    "finetune": finetuning.read_finetune,
    "nas": nas.read_nas,
    "share": sharing.read_share,
}
"""The steps that change the model, each with what reads its parameters."""


def check_calibration(where: str, chain: TransformChain, *, is_given: bool) -> None:
    """SpecError unless a calibration text is given exactly where a transform learns from one."""
    needs_data = not WITHOUT_DATA.issuperset(chain.names)
    if needs_data and not is_given:
        raise SpecError(
            f"[{where}] expected --calibration FILE for {chain}, which learns from text, got none; "
            "give a text like those that the model will see, and not the one that is scored"
        )
    if is_given and not needs_data:
        raise SpecError(
            f"[{where}] expected --calibration only with a transform that learns from text, got "
            f"{chain}; omit it"
        )


def apply_transform(
    chain: TransformChain,
    reference: Linears,
    progress: Callable[[int, int], None] | None = None,
    *,
    calibration: CalibrationSet | None = None,
    keeps_zeros: bool = False,
) -> QuantizedModel:
    """Run quantizing transforms over the reference's linear layers.

    keeps_zeros: a weight that is zero stays zero, as a pruned model's must; all but gptq do so
    anyway, because every grid has a code for zero.
    Raises SpecError for parameters that do not fit, and where one that learns from data gets none.
    """
    if chain.names == ("rtn",):
        return rtn.apply(reference, progress=progress, **chain.steps[0].parameters)  # type: ignore[arg-type]
    if calibration is None:
        raise SpecError(
            f"[transform] expected a calibration set for {chain}, got none; give the workload's"
        )
    from edgebench.transform.steps import apply  # torch is imported only by those that need it

    return apply(chain, reference, calibration, progress, keeps_zeros=keeps_zeros)
