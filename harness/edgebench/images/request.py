"""Which steps a workload of images takes, what they fall on, and the shape that a cut leaves.

Refuses before any work what cannot be done. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgebench.errors import SpecError
from edgebench.transform import TransformChain, TransformSpec
from edgebench.transform.nas import NAME as NAS
from edgebench.transform.nas import NasRequest, read_nas
from edgebench.transform.pruning import Pattern, read_prune
from edgebench.transform.rtn import INT8_BITS
from edgebench.transform.sharing import NAME as SHARE
from edgebench_workloads.wake.costs import is_product
from edgebench_workloads.wake.genome import Genome, Layer

METHODS = ("magnitude", "wanda", "units")
"""Of prune; sparsegpt, heads and layers know the layers of a Llama."""
UNIT = 8
"""A cut leaves multiples of it, so that 2:4 and 4:8 go on dividing."""
WHOLE = ("stem", "classifier")


def image_chain(chain: TransformChain) -> TransformChain:
    """The chain that quantizes, as it is applied to convolutions; SpecError for those of text.

    What is no matrix product becomes INT8, unless the chain says otherwise.
    """
    if chain.names != ("rtn",):
        raise SpecError(
            f"[transform] expected rtn for a workload of images, got {chain}: the others learn "
            "from the activations of Llama's layers; leave --transform out"
        )
    own = {"convolution_bits": INT8_BITS, **chain.steps[0].parameters}
    parameters = {**own, "whole_rows": True}
    return TransformChain(steps=(TransformSpec(name="rtn", parameters=parameters),))


def image_search(chain: TransformChain) -> NasRequest | None:
    """What a chain searches for; None where it does not. SpecError where other steps stand by."""
    if NAS not in chain.names:
        return None
    if chain.names not in ((NAS,), (NAS, "rtn")):
        raise SpecError(
            f"[nas] expected nas alone or with rtn behind it, got {chain}: other steps change the "
            "reference, or learn from the layers of a Llama; leave them out"
        )
    return read_nas(chain.changes[0].parameters)


def image_steps(chain: TransformChain) -> Sequence[TransformSpec]:
    """The steps that change the reference of a workload of images, without a search.

    Raises SpecError for steps of text, and for a quantizer behind shared values.
    """
    steps = () if image_search(chain) is not None else chain.changes
    for step in steps:
        if step.name == "distill":
            raise SpecError(
                "[distill] expected a workload with a student, got one of images; use nas, or "
                "prune and finetune"
            )
        if step.name == "prune":
            _check_prune(step)
    if SHARE in chain.names and chain.rounding is not None:
        raise SpecError(
            f"[share] expected no quantizer behind share, which has its own values, got "
            f"{chain.rounding}; leave one of the two out"
        )
    return steps


def _check_prune(step: TransformSpec) -> None:
    request = read_prune(step.parameters)
    if request.method not in METHODS:
        raise SpecError(
            f"[prune] expected {', '.join(METHODS)} for a workload of images, got "
            f"{request.method}, which knows the layers of a Llama"
        )


def is_pruned(layer: Layer, pattern: Pattern) -> bool:
    """Whether zeros of this pattern fall on a layer."""
    if layer.name in WHOLE:
        return False
    return not pattern.is_grouped or (is_product(layer) and layer.inputs % pattern.width == 0)


def cut_genome(genome: Genome, share: float) -> Genome:
    """The shape that `prune:units` leaves; SpecError where no block gets narrower."""
    stages = range(len(genome.depths))
    before = [[genome.middle(stage, place) for place in range(4)] for stage in stages]
    after = tuple(tuple(_width(one, share) for one in row) for row in before)
    if [list(row) for row in after] == before:
        raise SpecError(
            f"[prune] expected a share of units that leaves fewer multiples of {UNIT} channels in "
            f"some block, got {share:g}; remove more"
        )
    return replace(genome, middles=after)


def _width(middle: int, share: float) -> int:
    """The nearest multiple of UNIT to what a share leaves, the smaller of two; 0 for no block."""
    if middle == 0:
        return 0
    nearest = UNIT * math.ceil(round(middle * (1 - share) / UNIT - 0.5, 6))
    return min(middle, max(UNIT, nearest))
