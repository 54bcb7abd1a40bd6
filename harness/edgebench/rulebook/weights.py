"""Weights: where they come from and what was done to them."""

from __future__ import annotations

from edgebench import profiles as p
from edgebench.rulebook.rule import CLOSED_OWN, MLPERF, OPEN, OWN, Rule

RULES = (
    Rule(
        id="W-01",
        title="The task, the reference and the data are ours",
        text="The hashes of task, reference, scored set and calibration set equal the catalog's.",
        why="Another reference or other data is another benchmark.",
        source=f"{MLPERF}: weights and data from the benchmark's owner",
        what_to_do="use the released workload of the same version",
        checks=("checker.provenance.check_identity",),
    ),
    Rule(
        id="W-02",
        title="Calibration never saw the scored set",
        text="No calibration input occurs in the scored set, and every step that used data used "
        "the calibration set.",
        why="Tuning on the test answers the test.",
        source=f"{MLPERF}, calibration",
        what_to_do="calibrate on the workload's calibration set",
        checks=("checker.provenance.check_calibration",),
    ),
    Rule(
        id="W-03",
        title="Closed: the same graph",
        text="The architecture's hash equals the reference's, and exactly its linear layers are "
        "quantized, with their shapes.",
        why="A smaller network is another entry: the open track's.",
        source=f"{MLPERF}, closed division: model equivalent to the reference",
        what_to_do="submit to the open track",
        applies_to=CLOSED_OWN,
        checks=(
            "checker.provenance.check_identity",
            "checker.weights.check_weights",
        ),
    ),
    Rule(
        id="W-04",
        title="Closed: half a step for every weight",
        text="Every weight's code is the nearest on its own grid: |w - (q - z) s| <= s/2 plus fp16 "
        "rounding; a code at the grid's edge may stand for a weight beyond it by the zero point's "
        "rounding alone.",
        why="Retraining and pruning break this; rounding cannot.",
        source="ours: honest round-to-nearest passes with 100.000 % of codes",
        what_to_do="submit retrained or pruned weights to the open track",
        applies_to=CLOSED_OWN,
        checks=("checker.weights.check_weights",),
    ),
    Rule(
        id="W-05",
        title="Grids are sane",
        text="Scales are finite, positive and no wider than the group's own range needs; zero "
        f"points are at most {p.MAX_CODE}; shapes agree.",
        why="A huge step makes half a step say nothing.",
        source="ours: grids that contain zero",
        what_to_do="quantize again",
        applies_to=OWN,
        checks=("checker.weights.check_weights",),
    ),
    Rule(
        id="W-06",
        title="The ledger names these tensors",
        text="Each tensor's sha256 is in the ledger; the steps' hashes chain from the reference to "
        "the submitted model; tensors that are not in the bundle regenerate from the recipe or "
        "come with --tensors.",
        why="What is checked must be what ran.",
        source="docs/design.md §5",
        what_to_do="submit the tensors that ran",
        applies_to=OWN,
        checks=(
            "checker.provenance.check_chain",
            "checker.folded.check_folded",
            "checker.weights.check_weights",
        ),
    ),
    Rule(
        id="W-07",
        title="The track allows the transform",
        text="Closed: post-training quantization only, as declared in the result and the ledger.",
        why="Closed compares kernels, not training budgets.",
        source=f"{MLPERF}, closed division: no retraining",
        what_to_do="submit to the open track",
        checks=("checker.provenance.check_track",),
    ),
    Rule(
        id="W-08",
        title="Widened workloads run closed only",
        text="A workload with @size is refused in the open track.",
        why="Its replicas are redundant by construction: pruning them would be free.",
        source="docs/design.md §4",
        what_to_do="use the embedded workload in the open track",
        applies_to=OPEN,
        checks=("checker.provenance.check_track",),
    ),
    Rule(
        id="W-09",
        title="Closed: a rule verifies the transform",
        text="W-04 tells honest rounding from retraining for "
        f"{', '.join(sorted(p.VERIFIED_TRANSFORMS))}. No rule does so yet for "
        f"{', '.join(sorted(p.UNVERIFIED_TRANSFORMS))}: their results are measured and filed, "
        "their codes are held against no reference, and they are invalid in the closed track.",
        why="A name in a ledger proves nothing about the weights.",
        source="docs/design.md §5",
        what_to_do="compare it on your own machine; to be ranked, use rtn",
        applies_to=CLOSED_OWN,
        checks=(
            "checker.provenance.check_verified",
            "checker.weights.check_weights",
        ),
    ),
)
