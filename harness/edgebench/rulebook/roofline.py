"""Roofline: no kernel beats the machine."""

from __future__ import annotations

from edgebench import profiles as p
from edgebench.rulebook.rule import Rule

RULES = (
    Rule(
        id="R-01",
        title="Ceilings are medians of repeats",
        text=f"Each ceiling is the median of at least {p.MIN_CEILING_REPEATS} repeats of one named "
        "instruction with the threads that ran, taken before and after the run's middle.",
        why="One lucky or unlucky repeat moves every percentage.",
        source="docs/design.md §6",
        what_to_do="run again",
        checks=("checker.roofline.check_ceilings",),
    ),
    Rule(
        id="R-02",
        title="Roofline places follow from ceilings and samples",
        text="Both percentages are derived again and must be equal; null where the weights fit in "
        f"{p.CACHE_MULTIPLE}x the last-level cache, with the reason.",
        why="No published number is taken on trust.",
        source="docs/design.md §6",
        what_to_do="do not edit record.json; run again",
        checks=("checker.derivation.check_numbers",),
    ),
    Rule(
        id="R-03",
        title="No kernel beats the machine",
        text=f"No kernel is over {p.ROOFLINE_INVALID_PERCENT:.0f} % of the highest repeat of its "
        "ceiling.",
        why="Faster than the machine was ever seen to be means that something was not computed.",
        source="docs/design.md §6",
        what_to_do="find what was skipped, or measure the ceilings on a quiet machine",
        checks=("checker.roofline.check_places",),
    ),
    Rule(
        id="R-04",
        title="At the ceiling",
        text=f"No percentage is over {p.ROOFLINE_WARN_PERCENT:.0f} %, of the median of its "
        "ceiling's repeats.",
        why="The ceiling moved with a machine that others share; a reader should know.",
        source="docs/design.md §6",
        what_to_do="measure the ceilings on a quiet machine",
        severity="warning",
        checks=("checker.roofline.check_places",),
    ),
    Rule(
        id="R-05",
        title="The weights weigh what they weigh",
        text="weight_bytes per weight lies between "
        f"{p.BYTES_PER_WEIGHT['int4'][0]:g} and {p.BYTES_PER_WEIGHT['int4'][1]:g} for int4 (from "
        f"{p.SPARSE_BYTES_PER_WEIGHT:g} in the open track on the path {p.SPARSE_PATH}), and "
        f"between {p.BYTES_PER_WEIGHT['fp16'][0]:g} and {p.BYTES_PER_WEIGHT['fp16'][1]:g} for "
        "fp16. An int4 layer counts as kernels lay it out: rows to a multiple of "
        f"{p.PADDED_TO[0]}, inputs to one of {p.PADDED_TO[1]}.",
        why="Bytes per token are the roofline's numerator.",
        source="docs/design.md §6",
        what_to_do="run again; do not edit record.json",
        checks=("checker.roofline.check_weight_bytes",),
    ),
)
