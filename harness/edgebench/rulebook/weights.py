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
        checks=("checker.provenance.check_calibration", "checker.weights.check_weights"),
    ),
    Rule(
        id="W-03",
        title="Closed: the same graph",
        text="The architecture's hash equals the reference's, and exactly its linear layers are "
        "quantized to INT4, with their shapes; of images, its 1x1 convolutions and its classifier.",
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
        text="rtn, awq, smoothquant: every code is the nearest to its weight, scales folded, on "
        f"its own grid, within half a step and {p.NEAREST_CODE_SLACK_STEPS} steps of slack; a code "
        "at the grid's edge may stand for a weight beyond it.",
        why="Retraining and pruning break this; rounding cannot.",
        source="ours: honest results pass with 100.000 % of codes, docs/provenance.md",
        what_to_do="submit retrained or pruned weights to the open track",
        applies_to=CLOSED_OWN,
        checks=("checker.weights.check_weights",),
    ),
    Rule(
        id="W-05",
        title="Tensors are sane",
        text="Scales are finite and positive; zero points are at most "
        f"{p.MAX_CODE}; shapes agree, and groups have the size of the recipe.",
        why="What is no canonical tensor stands for nothing.",
        source="docs/design.md §7",
        what_to_do="quantize again",
        applies_to=OWN,
        checks=("checker.weights.check_weights",),
    ),
    Rule(
        id="W-06",
        title="The ledger names these tensors",
        text="Each tensor's sha256 is in the ledger; the steps' hashes chain from the reference to "
        "the submitted model; tensors that are not in the bundle regenerate from the recipe or "
        "come with --tensors. The files of tensors hold nothing else: no metadata, no tensor or "
        "part of one that the ledger does not account for; nor has a step choices that its "
        "transform never makes.",
        why="What is checked must be what ran.",
        source="docs/design.md §5",
        what_to_do="submit the tensors that ran",
        applies_to=OWN,
        checks=(
            "checker.provenance.check_chain",
            "checker.folded.check_folded",
            "checker.filed.check_filed",
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
        checks=("checker.provenance.check_track", "checker.weights.check_weights"),
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
        title="Closed: scales follow from the calibration set",
        text="awq, smoothquant: the reference runs on the ledger's calibration samples, and every "
        "declared scale is the formula's, with an exponent of its grid (or the alpha given), to "
        f"{p.SCALE_TOLERANCE:g}; a norm is fp16(n / s) bit for bit; nothing else is folded.",
        why="A scale that nobody can compute again is a trained parameter.",
        source=f"{MLPERF}, closed division: mathematically equivalent transformations",
        what_to_do="calibrate on the first samples of the workload's set, as the ledger says",
        applies_to=CLOSED_OWN,
        checks=("checker.weights.check_weights",),
    ),
    Rule(
        id="W-10",
        title="Closed: grids follow from the weights",
        text="Every scale and zero point is computed again from the folded reference weights: of "
        "the group's own range, or, where awq clips, of one of the ten ranges that its search "
        "tries. Scales are fp16 before codes; ties go to the even code.",
        why="A step that is wide enough makes half a step say nothing.",
        source="ours: docs/provenance.md",
        what_to_do="quantize again",
        applies_to=CLOSED_OWN,
        checks=("checker.weights.check_weights",),
    ),
    Rule(
        id="W-11",
        title="Closed: error feedback is replayed",
        text="gptq, also behind awq or smoothquant: with the Hessian of the calibration samples in "
        "the submission's own quantized layers, the declared damping and order, and the errors of "
        f"the submission's own codes, at least {p.MIN_REPLAYED_SHARE:.1%} of each tensor's codes "
        "are the nearest to the weight that makes up for the errors before.",
        why="Statistics cannot tell GPTQ from retraining; a replay can.",
        source="ours: docs/provenance.md",
        what_to_do="declare what was done; submit retrained weights to the open track",
        applies_to=CLOSED_OWN,
        checks=("checker.weights.check_weights",),
    ),
    Rule(
        id="W-12",
        title="Closed: no weight is dropped",
        text="A weight whose code stands for zero is one that rounding, or the replay, brings "
        f"there; where codes may miss (W-11), at most {p.MAX_REPLAYED_ZEROS:.1%} of a tensor's "
        "weights are zero without that. 2:4 and 4:8 patterns are named.",
        why="Pruning is another entry: the open track's.",
        source=f"{MLPERF}, closed division: no discarding of non-zero weights",
        what_to_do="submit pruned weights to the open track",
        applies_to=CLOSED_OWN,
        checks=("checker.weights.check_weights",),
    ),
    Rule(
        id="W-13",
        title="Closed: the description is small",
        text="Parameters, choices and scales at 16 bits each (a norm's once, with the norm) take "
        f"at most {p.MAX_DESCRIPTION_SHARE:.0%} of the codes' bytes, or "
        f"{p.DESCRIPTION_FLOOR_BYTES} bytes.",
        why="A description as large as the weights could hold other weights.",
        source=f"{MLPERF}, closed division: a description much smaller than the weights",
        what_to_do="submit to the open track",
        applies_to=CLOSED_OWN,
        checks=("checker.timed.check_description",),
    ),
    Rule(
        id="W-14",
        title="What is filed is what was timed",
        text="The tensors that the engine packed hash to the ledger's model, its packed weights "
        "hash alike before the first timed block and after the last, and the bytes that it reads "
        "are those of its packed weights. What has no hashes is W-16's.",
        why="Weights that change while the clock runs are other weights.",
        source=f"{MLPERF}: no modification of weights while timed",
        what_to_do="run again",
        checks=("checker.timed.check_timed",),
    ),
    Rule(
        id="W-15",
        title="Closed: INT8 weights follow from the reference's",
        text="Of images, the layers that are no matrix products keep the reference's weights, or, "
        "with convolution_bits = 8, are rounded to INT8 with a scale an output channel: the ledger "
        "then has the hash of each, which is computed again bit for bit.",
        why="Weights that no file holds must follow from those that one does.",
        source="ours: docs/transforms.md",
        what_to_do="quantize again",
        applies_to=CLOSED_OWN,
        checks=("checker.convolutions.check_convolutions",),
    ),
    Rule(
        id="W-16",
        title="What was timed and not hashed is shown",
        text="A result of int4 has the hashes of W-14: this version writes them of every engine on "
        "a CPU. Records of GPUs and of older versions have none, and then nothing says that the "
        "timed weights were those filed, that they stayed, or that weight_bytes is what was read.",
        why="A missing hash must not pass for one that agrees.",
        source="docs/provenance.md",
        what_to_do="run again with this version; on a GPU bench audit is what can tell",
        severity="warning",
        checks=("checker.timed.check_timed",),
    ),
)
