"""What a track may do to a model: the table of transforms and the grammar that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgebench.errors import SpecError, unknown_name
from edgebench.transform import rtn

if TYPE_CHECKING:
    from edgebench.transform.quantized import Linears, QuantizedModel

Parameter = int | float | str | bool

TRANSFORMS: Mapping[str, Callable[..., QuantizedModel]] = {
    "rtn": rtn.apply,
}
PARAMETERS: Mapping[str, Mapping[str, type]] = {
    "rtn": rtn.PARAMETERS,
}
SUMMARIES: Mapping[str, str] = {
    "rtn": "round to nearest: each group of weights gets its own 4-bit grid; needs no data",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformSpec:
    """A named transform with its parameters, as written: `rtn` or `rtn:group=64,symmetric=true`."""

    name: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.parameters:
            return self.name
        words = (f"{key}={value}".lower() for key, value in sorted(self.parameters.items()))
        return f"{self.name}:{','.join(words)}"


def _parse_value(where: str, text: str, kind: type) -> Parameter:
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is int and text.isdecimal():
        return int(text)
    raise SpecError(f"[transform] expected {where} to be a {kind.__name__}, got {text!r}")


def parse_transform(text: str) -> TransformSpec:
    """Parse `name` or `name:key=value,...`; unknown names and keys raise SpecError."""
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


def apply_transform(
    spec: TransformSpec,
    reference: Linears,
    progress: Callable[[int, int], None] | None = None,
) -> QuantizedModel:
    """Run the transform over the reference's linear layers."""
    return TRANSFORMS[spec.name](reference, progress=progress, **spec.parameters)
