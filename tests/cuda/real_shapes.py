"""What a GPU is asked beside the small cases: every kernel on the shapes of Llama-3-8B.

Needs no pytest, so that `gpu_check.py` can run it.
"""

from __future__ import annotations

from . import real_linears, real_steps
from .real_check import Check, Place


def checks(place: Place) -> list[Check]:
    """All that a GPU is asked."""
    matrices = (*real_linears.AWKWARD, *real_linears.LLAMA_8B, *real_linears.GROUPS)
    return [*real_steps.checks(real_steps.LLAMA_8B), *real_linears.checks(place, matrices)]


def small_checks(place: Place) -> list[Check]:
    """The same checks on shapes that the emulator can do."""
    steps = real_steps.checks(real_steps.SMALL)
    return [*steps, *real_linears.checks(place, real_linears.SMALL)]
