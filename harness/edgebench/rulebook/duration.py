"""Duration and schedule: enough was measured, in the agreed order."""

from __future__ import annotations

from edgebench import profiles as p
from edgebench.rulebook.rule import MLPERF, Rule

RULES = (
    Rule(
        id="D-01",
        title="Long enough, by the clock of the samples",
        text="Each kernel's own performance blocks add up to the profile's minimum duration.",
        why="Settings can say 600 s while the samples say 0.2 s.",
        source=f"{MLPERF}: {p.OFFICIAL_DURATION_S:.0f} s",
        what_to_do="run the profile to its end",
        checks=("checker.duration.check_duration",),
    ),
    Rule(
        id="D-02",
        title="Enough queries and rounds",
        text="Each kernel issued at least the profile's queries (single-stream) or rounds of at "
        "least the profile's distinct samples (offline), or of several times as many where a round "
        "would be shorter than a block.",
        why="A count is what an estimate's confidence rests on.",
        source=f"{MLPERF}; profiles.py",
        what_to_do="run the profile to its end",
        checks=("checker.duration.check_counts",),
    ),
    Rule(
        id="D-03",
        title="Blocks that last",
        text=f"Within a block at least one kernel runs {p.MIN_BLOCK_S:.0f} s; "
        f"{p.SHORT_BLOCK_S:g} s in single-stream where a count of queries ends the run and no "
        "energy was measured; single-stream's last block may be shorter.",
        why="Shorter blocks measure the switch, and a power meter sees too few samples; in longer "
        "ones the kernels do not meet the same disturbance.",
        source="docs/design.md §6",
        what_to_do="let the load generator choose the block",
        severity="warning",
        checks=("checker.duration.check_blocks",),
    ),
    Rule(
        id="D-04",
        title="Short runs are stamped",
        text=f"A profile shorter than {p.OFFICIAL_DURATION_S:.0f} s carries {p.DURATION_STAMP}; "
        "the stamps are exactly the profile's, SIMULATED for a simulated device, "
        f"and {p.EXTERNAL_STAMP} exactly where the kernel external was measured.",
        why="A quick number must not pass for an official one.",
        source="docs/design.md §6",
        what_to_do="do not remove the stamp",
        checks=("checker.duration.check_stamps",),
    ),
    Rule(
        id="D-05",
        title="Time runs forward",
        text="Every sample: issued <= first token <= completed. Single-stream queries do not "
        "overlap; blocks of different kernels do not overlap.",
        why="Kernels that share the machine at one instant measure each other.",
        source=f"{MLPERF}: SingleStream issues the next query when the previous one completes",
        what_to_do="run again on a machine with a monotonic clock",
        checks=("checker.schedule.check_times",),
        is_gate=True,
    ),
    Rule(
        id="D-06",
        title="Pairs in ABBA order",
        text="Both kernels run every performance query with the same samples, and the kernel that "
        "goes first alternates from block to block. Where a profile demands measured time, the "
        "faster kernel goes on alone once the slower has met it; only what both ran is a pair.",
        why="Drift then falls on both kernels alike.",
        source="docs/design.md §6",
        what_to_do="run again; finish an interrupted run with --resume",
        checks=("checker.schedule.check_pairs",),
        is_gate=True,
    ),
    Rule(
        id="D-07",
        title="No sample twice, none from outside",
        text="No (kernel, mode, query, sample) occurs twice, or in an offline round that meets "
        "several passes over the scored set more often than those; every sample index lies in the "
        "set.",
        why="A copied row is a faked measurement.",
        source=f"{MLPERF}, sample library",
        what_to_do="run again",
        checks=("checker.schedule.check_rows",),
        is_gate=True,
    ),
    Rule(
        id="D-08",
        title="The schedule follows from the seeds",
        text="The seeds are the rulebook's, and the order of samples is what they generate.",
        why="Who chooses the order can choose the easy samples.",
        source="MLPerf Inference v6.1 mlperf.conf seeds",
        what_to_do="run with the seeds of the rulebook",
        checks=("checker.schedule.check_seeds",),
    ),
    Rule(
        id="D-09",
        title="Other runs on the machine are disclosed",
        text="No other EdgeBench run held the machine's lock.",
        why="Two runs at once slow each other.",
        source="docs/design.md §6",
        what_to_do="run again with the machine to yourself",
        severity="warning",
        checks=("checker.duration.check_alone",),
    ),
    Rule(
        id="D-10",
        title="Equal issue",
        text="Every sample of the scored set is issued equally often to each kernel, up to one; in "
        "the official profile exactly, because a kernel ends only after whole passes.",
        why="Inputs and answers differ in length: who meets more short ones looks faster.",
        source="MLPerf mlperf.conf, sample_concatenate_permutation of the language models; LoadGen "
        "b66003e1, loadgen.cc and test_settings_internal.cc",
        what_to_do="run the profile to its end",
        checks=("checker.schedule.check_equal_issue",),
    ),
)
