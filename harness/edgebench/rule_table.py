"""The literal table of rules, family by family; `rules.py` is the door to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgebench import profiles as p

Severity = Literal["error", "warning"]

MLPERF = "MLPerf inference_rules.adoc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: what it demands, why, where it comes from, and what to do when it is broken."""

    id: str
    title: str
    text: str
    why: str
    source: str
    what_to_do: str
    severity: Severity = "error"


RULE_TABLE = (
    Rule(
        id="S-01",
        title="Only the known files, plain and small",
        text="A bundle holds the files of the layout and nothing else: no links, no folders, no "
        "name that leaves the folder, no file over its size limit, no more rows than the limit.",
        why="A bundle comes from a stranger; reading it must be safe.",
        source="docs/design.md §5",
        what_to_do="remove what does not belong, or make the bundle again with bench run",
    ),
    Rule(
        id="S-02",
        title="The folder agrees with the record",
        text="The path's last six parts are division, organisation, system, workload, scenario and "
        "run id, and equal the record's fields; the record's system is that of system.json.",
        why="A leaderboard reads the tree; a bundle filed under another name would mislead.",
        source="MLPerf submission_rules.adoc, directory structure",
        what_to_do="move the folder to where the record belongs",
    ),
    Rule(
        id="S-03",
        title="Checksums cover every file",
        text="SHA256SUMS lists every other file exactly once, each with its sha256.",
        why="A flipped bit or an edited row must be noticed.",
        source="docs/design.md §5",
        what_to_do="copy the bundle again from where it was measured",
    ),
    Rule(
        id="S-04",
        title="Every file follows its schema",
        text="Each file is strict JSON (no NaN, no repeated key, no unknown key) of the published "
        "schema.",
        why="What cannot be read exactly cannot be checked.",
        source="docs/schema",
        what_to_do="make the bundle again with bench run",
    ),
    Rule(
        id="S-05",
        title="The run is complete",
        text="The record says complete and SHA256SUMS exists.",
        why="Half a run must never pass for a whole one.",
        source="docs/design.md §9",
        what_to_do="finish it with bench run --resume",
    ),
    Rule(
        id="S-06",
        title="The reference and one candidate, once each",
        text="The record holds one result for fp16 and exactly one more, for int4 or for external, "
        "and every row belongs to one of the two.",
        why="A ratio needs its reference, measured in the same run.",
        source="docs/design.md §6",
        what_to_do="run with --kernel fp16,int4, or with --sut openai",
    ),
    Rule(
        id="S-07",
        title="The verdict in the record is the checker's",
        text="A result that the rules make invalid says valid: false with reasons; a valid one has "
        "no reasons.",
        why="The record is shown where nobody runs the checker.",
        source="docs/design.md §5",
        what_to_do="make the bundle again with bench run",
    ),
    Rule(
        id="N-01",
        title="Latency and throughput follow from the samples",
        text="Samples, queries, durations, percentiles (the p90 by early stopping at confidence "
        f"{p.EARLY_STOPPING_CONFIDENCE}), TTFT, TPOT = (latency - TTFT) / (tokens - 1), samples/s "
        "and output tokens/s are derived again from samples.jsonl and must be equal.",
        why="No published number is taken on trust.",
        source=f"{MLPERF}, scenarios and early stopping",
        what_to_do="do not edit record.json; run again",
    ),
    Rule(
        id="N-02",
        title="The speedup follows from the pairs",
        text="Single-stream: median paired latency ratio; offline: median ratio of samples/s over "
        "paired rounds; each with its 95 % interval; none for fp16.",
        why="Only paired blocks of one run cancel the machine's drift.",
        source="docs/design.md §6",
        what_to_do="do not edit record.json; run again",
    ),
    Rule(
        id="N-03",
        title="A p90 needs enough queries",
        text=f"Single-stream has at least {p.MIN_QUERIES_FOR_P90} queries, else its early-stopping "
        "p90 does not exist.",
        why="A percentile from fewer queries is a guess.",
        source=f"{MLPERF}, early stopping",
        what_to_do="run more queries",
    ),
    Rule(
        id="D-01",
        title="Long enough, by the clock of the samples",
        text="Each kernel's own performance blocks add up to the profile's minimum duration.",
        why="Settings can say 600 s while the samples say 0.2 s.",
        source=f"{MLPERF}: {p.OFFICIAL_DURATION_S:.0f} s",
        what_to_do="run the profile to its end",
    ),
    Rule(
        id="D-02",
        title="Enough queries and rounds",
        text="Each kernel issued at least the profile's queries (single-stream) or rounds of at "
        "least the profile's distinct samples (offline).",
        why="A count is what an estimate's confidence rests on.",
        source=f"{MLPERF}; profiles.py",
        what_to_do="run the profile to its end",
    ),
    Rule(
        id="D-03",
        title="Blocks of two seconds",
        text=f"Within a block at least one kernel runs {p.MIN_BLOCK_S:.0f} s; single-stream's last "
        "block may be shorter.",
        why="Shorter blocks measure the switch, and a power meter sees too few samples.",
        source="docs/design.md §6",
        what_to_do="let the load generator choose the block",
        severity="warning",
    ),
    Rule(
        id="D-04",
        title="Short runs are stamped",
        text=f"A profile shorter than {p.OFFICIAL_DURATION_S:.0f} s carries {p.DURATION_STAMP}; "
        "the stamps are exactly the profile's, "
        f"and {p.EXTERNAL_STAMP} exactly where the kernel external was measured.",
        why="A quick number must not pass for an official one.",
        source="docs/design.md §6",
        what_to_do="do not remove the stamp",
    ),
    Rule(
        id="D-05",
        title="Time runs forward",
        text="Every sample: issued <= first token <= completed. Single-stream queries do not "
        "overlap; blocks of different kernels do not overlap.",
        why="Kernels that share the machine at one instant measure each other.",
        source=f"{MLPERF}: SingleStream issues the next query when the previous one completes",
        what_to_do="run again on a machine with a monotonic clock",
    ),
    Rule(
        id="D-06",
        title="Pairs in ABBA order",
        text="Both kernels run every performance query with the same samples, and the kernel that "
        "goes first alternates from block to block.",
        why="Drift then falls on both kernels alike.",
        source="docs/design.md §6",
        what_to_do="run again; finish an interrupted run with --resume",
    ),
    Rule(
        id="D-07",
        title="No sample twice, none from outside",
        text="No (kernel, mode, query, sample) occurs twice; every sample index lies in the scored "
        "set.",
        why="A copied row is a faked measurement.",
        source=f"{MLPERF}, sample library",
        what_to_do="run again",
    ),
    Rule(
        id="D-08",
        title="The schedule follows from the seeds",
        text="The seeds are the rulebook's, and the order of samples is what they generate.",
        why="Who chooses the order can choose the easy samples.",
        source="MLPerf Inference v6.1 mlperf.conf seeds",
        what_to_do="run with the seeds of the rulebook",
    ),
    Rule(
        id="D-09",
        title="Other runs on the machine are disclosed",
        text="No other EdgeBench run held the machine's lock.",
        why="Two runs at once slow each other.",
        source="docs/design.md §6",
        what_to_do="run again with the machine to yourself",
        severity="warning",
    ),
    Rule(
        id="Q-01",
        title="Accuracy follows from the outputs",
        text="The output ids are decoded with the workload's tokenizer and compared with the "
        "answers; each distinct sample counts once; the fraction must be equal.",
        why="No published number is taken on trust.",
        source="docs/design.md §5",
        what_to_do="do not edit record.json; run again",
    ),
    Rule(
        id="Q-02",
        title="The accuracy gate",
        text=f"Closed track: accuracy is at least {p.ACCURACY_TARGET:.0%} of this run's fp16 "
        f"reference ({p.HIGH_ACCURACY_TARGET:.1%} is reported as high accuracy).",
        why="Speed that costs the answer is no gain.",
        source=f"{MLPERF}: 99 % and 99.9 % of the reference",
        what_to_do="use a gentler transform, or the open track",
    ),
    Rule(
        id="Q-03",
        title="The reference is as good as the pinned one",
        text="The fp16 accuracy is not below the task's by more than "
        f"{p.PINNED_SLACK} (and {p.PINNED_SIGMAS:.0f} binomial deviations on a subset).",
        why="A weak reference makes any gate easy.",
        source="docs/design.md §4",
        what_to_do="check the weights and the build; run again",
    ),
    Rule(
        id="Q-04",
        title="The length corridor",
        text=f"Output tokens lie within {p.LENGTH_CORRIDOR[0]:.0%} to {p.LENGTH_CORRIDOR[1]:.0%} "
        "of the fp16 outputs on the same samples.",
        why="Short answers are fast answers.",
        source=f"{MLPERF}, generative models; compliance TEST09",
        what_to_do="find out why the transform changes the length",
    ),
    Rule(
        id="Q-05",
        title="Performance outputs are the accuracy outputs",
        text="Greedy decoding is deterministic: the same kernel gives the same sample the same "
        f"output in both modes and in every round, up to {p.OUTPUT_MISMATCH_LIMIT:.0%} of outputs "
        "whose near-ties fall the other way in a batch of another size.",
        why="The timed model must be the scored model.",
        source="MLPerf compliance TEST01, on whole outputs",
        what_to_do="make both modes run the same code",
    ),
    Rule(
        id="Q-06",
        title="The call's likelihood follows from its rows",
        text="call_nll = sum(nll) / sum(tokens) over nll.jsonl; both kernels cover the same "
        "samples, each once, with the task's token counts. An external engine shows text alone and "
        "has none.",
        why="Exact match alone cannot see four bits.",
        source="docs/design.md §4",
        what_to_do="do not edit record.json; run again",
    ),
    Rule(
        id="Q-07",
        title="Enough was scored",
        text="The whole scored set is scored, unless the profile scores a large model on its "
        "performance outputs.",
        why="A subset can be chosen.",
        source=f"{MLPERF}: all samples of the validation set; profiles.py",
        what_to_do="run the accuracy mode to its end",
    ),
    Rule(
        id="Q-08",
        title="Outputs are whole token sequences",
        text="At most one end-of-sequence, and it is last; every id is in the vocabulary; the "
        "length is within the task's limit; an output that does not end has the full length (an "
        "external engine's text is encoded again, so it may have fewer tokens).",
        why="A truncated or padded output falsifies tokens/s.",
        source="MLPerf compliance TEST06",
        what_to_do="run again without changing max_new_tokens",
    ),
    Rule(
        id="W-01",
        title="The task, the reference and the data are ours",
        text="The hashes of task, reference, scored set and calibration set equal the catalog's.",
        why="Another reference or other data is another benchmark.",
        source=f"{MLPERF}: weights and data from the benchmark's owner",
        what_to_do="use the released workload of the same version",
    ),
    Rule(
        id="W-02",
        title="Calibration never saw the scored set",
        text="No calibration input occurs in the scored set, and every step that used data used "
        "the calibration set.",
        why="Tuning on the test answers the test.",
        source=f"{MLPERF}, calibration",
        what_to_do="calibrate on the workload's calibration set",
    ),
    Rule(
        id="W-03",
        title="Closed: the same graph",
        text="The architecture's hash equals the reference's, and exactly its linear layers are "
        "quantized, with their shapes.",
        why="A smaller network is another entry: the open track's.",
        source=f"{MLPERF}, closed division: model equivalent to the reference",
        what_to_do="submit to the open track",
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
    ),
    Rule(
        id="W-05",
        title="Grids are sane",
        text="Scales are finite, positive and no wider than the group's own range needs; zero "
        f"points are at most {p.MAX_CODE}; shapes agree.",
        why="A huge step makes half a step say nothing.",
        source="ours: grids that contain zero",
        what_to_do="quantize again",
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
    ),
    Rule(
        id="W-07",
        title="The track allows the transform",
        text="Closed: post-training quantization only, as declared in the result and the ledger.",
        why="Closed compares kernels, not training budgets.",
        source=f"{MLPERF}, closed division: no retraining",
        what_to_do="submit to the open track",
    ),
    Rule(
        id="W-08",
        title="Widened workloads run closed only",
        text="A workload with @size is refused in the open track.",
        why="Its replicas are redundant by construction: pruning them would be free.",
        source="docs/design.md §4",
        what_to_do="use the embedded workload in the open track",
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
    ),
    Rule(
        id="W-10",
        title="An external engine says that it is one",
        text="A bundle holds external exactly where its record describes the server. Then its "
        "ledger has no step and no tensor, and the result says transform "
        f"{p.EXTERNAL_TRANSFORM!r}, no weight bytes, no memory and no place under the roofline.",
        why="What cannot be checked must not be claimed.",
        source="ours: engines behind HTTP",
        what_to_do="run with --sut openai and do not edit the bundle",
    ),
    Rule(
        id="W-11",
        title="An external engine's weights are not checked",
        text="W-03 to W-06, W-09 and R-05 cannot look into a server: whether it runs the "
        "reference's weights, and at how many bits, is its owner's word. All other rules hold; "
        "such results are ranked among themselves only.",
        why="A reader should know what nobody verified.",
        source="ours: engines behind HTTP",
        what_to_do="compare it on your own machine; to be ranked among INT4, use the kernel int4",
        severity="warning",
    ),
    Rule(
        id="R-01",
        title="Ceilings are medians of repeats",
        text=f"Each ceiling is the median of at least {p.MIN_CEILING_REPEATS} repeats of one named "
        "instruction with the threads that ran, taken before and after the run's middle.",
        why="One lucky or unlucky repeat moves every percentage.",
        source="docs/design.md §6",
        what_to_do="run again",
    ),
    Rule(
        id="R-02",
        title="Roofline places follow from ceilings and samples",
        text="Both percentages are derived again and must be equal; null where the weights fit in "
        f"{p.CACHE_MULTIPLE}x the last-level cache, with the reason.",
        why="No published number is taken on trust.",
        source="docs/design.md §6",
        what_to_do="do not edit record.json; run again",
    ),
    Rule(
        id="R-03",
        title="No kernel beats the machine",
        text=f"No percentage is over {p.ROOFLINE_INVALID_PERCENT:.0f} %.",
        why="Faster than the measured machine means that something was not computed.",
        source="docs/design.md §6",
        what_to_do="find what was skipped, or measure the ceilings on a quiet machine",
    ),
    Rule(
        id="R-04",
        title="At the ceiling",
        text=f"No percentage is over {p.ROOFLINE_WARN_PERCENT:.0f} %.",
        why="A little over is the noise of the ceiling; a reader should know.",
        source="docs/design.md §6",
        what_to_do="measure the ceilings on a quiet machine",
        severity="warning",
    ),
    Rule(
        id="R-05",
        title="The weights weigh what they weigh",
        text="weight_bytes per weight lies between "
        f"{p.BYTES_PER_WEIGHT['int4'][0]:g} and {p.BYTES_PER_WEIGHT['int4'][1]:g} for int4, and "
        f"between {p.BYTES_PER_WEIGHT['fp16'][0]:g} and {p.BYTES_PER_WEIGHT['fp16'][1]:g} for "
        "fp16.",
        why="Bytes per token are the roofline's numerator.",
        source="docs/design.md §6",
        what_to_do="run again; do not edit record.json",
    ),
    Rule(
        id="P-01",
        title="Energy follows from power.csv",
        text="Joules, mean power and coverage are integrated again over each kernel's own blocks "
        "and must be equal.",
        why="No published number is taken on trust.",
        source="docs/design.md §8",
        what_to_do="do not edit record.json; run again",
    ),
    Rule(
        id="P-02",
        title="Unmeasured is absent",
        text="Unmeasured energy has null joules, power and coverage, and a reason; measured energy "
        "names its meter and domain.",
        why="A zero would win every efficiency table.",
        source="docs/design.md §8",
        what_to_do="do not fill in numbers by hand",
    ),
)
