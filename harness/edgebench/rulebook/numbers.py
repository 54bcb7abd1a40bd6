"""Numbers: every published number follows from the raw rows."""

from __future__ import annotations

from edgebench import profiles as p
from edgebench.rulebook.rule import CLOSED, MLPERF, SINGLE_STREAM, Rule

RULES = (
    Rule(
        id="N-01",
        title="Latency and throughput follow from the samples",
        text="Samples, queries, durations, percentiles (the p90 by early stopping at confidence "
        f"{p.EARLY_STOPPING_CONFIDENCE}), TTFT, TPOT = (latency - TTFT) / (tokens - 1), samples/s "
        "and output tokens/s are derived again from samples.jsonl and must be equal.",
        why="No published number is taken on trust.",
        source=f"{MLPERF}, scenarios and early stopping",
        what_to_do="do not edit record.json; run again",
        checks=("checker.derivation.check_numbers",),
    ),
    Rule(
        id="N-02",
        title="The speedup follows from the pairs",
        text="Single-stream: the median over paired blocks of each one's median latency ratio over "
        "its queries; offline: median ratio of samples/s over paired rounds; each with the 95 % "
        f"interval of those medians, which {p.MIN_PAIRED_BLOCKS} pairs give at least; none for "
        "fp16.",
        why="Only paired blocks of one run cancel the machine's drift.",
        source="docs/design.md §6",
        what_to_do="do not edit record.json; run again",
        checks=("checker.derivation.check_numbers",),
    ),
    Rule(
        id="N-03",
        title="A p90 needs enough queries",
        text=f"Single-stream has at least {p.MIN_QUERIES_FOR_P90} queries, else its early-stopping "
        "p90 does not exist.",
        why="A percentile from fewer queries is a guess.",
        source=f"{MLPERF}, early stopping",
        what_to_do="run more queries",
        applies_to=SINGLE_STREAM,
        checks=("checker.duration.check_counts",),
    ),
    Rule(
        id="N-04",
        title="Costs on paper follow from the graph",
        text="Images: parameters, multiply-accumulates, bytes and peak activations (MCUNet's "
        "definition) are computed again from the reference's layers and the recipe's groups. Text "
        "has none.",
        why="A small number of a large model is worth inventing.",
        source="arXiv:2007.10319, section 3; workloads/edgebench_workloads/wake/costs.py",
        what_to_do="do not edit record.json; run again",
        applies_to=CLOSED,
        checks=("checker.cost.check_costs",),
    ),
    Rule(
        id="N-05",
        title="A speedup has pairs enough for an interval",
        text=f"Both kernels ran {p.MIN_PAIRED_BLOCKS} blocks at least, in turns.",
        why="One block of each compares two stretches of time as much as two kernels.",
        source=f"profiles.py: a paired interval at 95 % exists from {p.MIN_ROUNDS} pairs on",
        what_to_do="run again: the load generator takes turns often enough",
        severity="warning",
        applies_to=SINGLE_STREAM,
        checks=("checker.duration.check_pairs_of_blocks",),
    ),
)
