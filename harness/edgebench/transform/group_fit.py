"""Whether the groups that a request names fit a checkpoint's linears, said before weights are read.

A group that nobody named is the largest of 128, 64 and 32 that divides a linear's inputs; one that
was named is meant, and is not replaced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgebench.errors import SpecError
from edgebench.transform import TransformChain
from edgebench.transform.rtn import GROUPS
from edgebench_kernels.formats import choose_group, fitting_group


def require_fitting_groups(where: str, chain: TransformChain, widths: Mapping[str, int]) -> None:
    """SpecError unless the chain's groups divide the inputs K of every linear: name -> K."""
    named = [step.parameters["group"] for step in chain.steps if "group" in step.parameters]
    whole_rows = any(step.parameters.get("whole_rows") for step in chain.steps)
    for name, k in widths.items():
        fitting = [group for group in GROUPS if k % group == 0]
        if not fitting and not whole_rows:
            raise SpecError(
                f"[{where}] expected the inputs of every linear to be a multiple of {min(GROUPS)}, "
                f"the smallest group, got {name} with {k}; --transform rtn:whole_rows=true makes a "
                "row of it one group, other transforms cannot"
            )
        for group in named:
            if fitting and group in GROUPS and group not in fitting:
                raise SpecError(
                    f"[{where}] expected a group that divides the inputs of every linear, got "
                    f"group={group} in {chain} and {name} with {k} inputs; take "
                    f"group={max(fitting)}, or leave group out, and each linear takes the largest "
                    "that divides it"
                )


def require_one_group(chain: TransformChain, widths: Mapping[str, int], layout: str) -> None:
    """SpecError unless every linear gets the same group, which is all that some layouts state.

    widths: the inputs K of every linear; require_fitting_groups has nothing against them.
    """
    named = {step.parameters["group"] for step in chain.steps if "group" in step.parameters}
    whole_rows = any(step.parameters.get("whole_rows") for step in chain.steps)
    if len(named) > 1 or whole_rows:
        return  # found when the tensors are there
    asked = int(next(iter(named), max(GROUPS)))
    groups = {fitting_group(k, asked) for k in widths.values()}
    if len(groups) > 1:
        fits = choose_group(math.gcd(*widths.values()))
        raise SpecError(
            f"[export] expected one group for all linears, which is all that {layout} states, got "
            f"{' and '.join(map(str, sorted(groups)))} by {chain}; take group={fits}, or write "
            "compressed-tensors"
        )
