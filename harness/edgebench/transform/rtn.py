"""Round to nearest: every group of weights gets the 4-bit grid that spans it; no data is used.

Layers that are no matrix products keep the reference's weights, or are rounded to INT8, a scale an
output channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgebench.errors import SpecError
from edgebench.record import TransformStep
from edgebench.transform.quantized import Linears, QuantizedModel, model_sha256
from edgebench_kernels.formats import fitting_group
from edgebench_kernels.int8_format import quantize_int8
from edgebench_kernels.quantize import quantize_rtn

PARAMETERS: Mapping[str, type] = {
    "group": int, "symmetric": bool, "whole_rows": bool, "convolution_bits": int,
}  # fmt: skip
GROUPS = (32, 64, 128)
INT8_BITS, UNROUNDED_BITS = CONVOLUTION_BITS = (8, 16)
DEFAULT_GROUP = 128  # docs/design.md, section 7: else the largest of 64 and 32 that divides K


def apply(
    reference: Linears,
    *,
    progress: Callable[[int, int], None] | None = None,
    group: int = DEFAULT_GROUP,
    symmetric: bool = False,
    whole_rows: bool = False,
    convolution_bits: int = UNROUNDED_BITS,
) -> QuantizedModel:
    """Quantize every linear layer; where the group does not divide K, a smaller one is taken.

    Where none does, whole_rows makes each row one group, as narrow convolutions need it. With
    convolution_bits of 8, the layers that are no matrix products are rounded to INT8 as well.
    """
    if group not in GROUPS:
        raise SpecError(f"[rtn] expected group to be one of {GROUPS}, got {group}")
    if convolution_bits not in CONVOLUTION_BITS:
        raise SpecError(
            f"[rtn] expected convolution_bits to be one of {CONVOLUTION_BITS}, got "
            f"{convolution_bits}"
        )
    if convolution_bits == INT8_BITS and not reference.convolutions:
        raise SpecError(
            "[rtn] expected convolution_bits=8 for a model of convolutions, got one without; "
            "leave it out"
        )
    tensors = {}
    for done, name in enumerate(reference.names):
        weight = reference.weight(name)
        fitting = fitting_group(weight.shape[1], group, whole_rows=whole_rows)
        tensors[name] = quantize_rtn(weight, fitting, symmetric=symmetric)
        if progress is not None:
            progress(done + 1, len(reference.names))
    form: dict[str, int | float | str | bool | None] = {
        "bits": 4, "group": group, "symmetric": symmetric,
    }  # fmt: skip
    if whole_rows:
        form["whole_rows"] = True
    convolutions = {}
    if convolution_bits == INT8_BITS:
        form["convolution_bits"] = INT8_BITS
        convolutions = {n: quantize_int8(reference.weight(n)) for n in reference.convolutions}
    step = TransformStep(
        transform="rtn",
        parameters=form,
        before_sha256=reference.sha256,
        after_sha256=model_sha256(tensors, convolutions=convolutions),
    )
    return QuantizedModel(tensors=tensors, steps=(step,), convolutions=convolutions)
