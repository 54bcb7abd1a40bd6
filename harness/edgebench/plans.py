"""Plans: which samples run in which block, for the performance run and the accuracy run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgebench.block_policy import PROBE_CAUTION, BlockPolicy, block_policy
from edgebench.interleave import (
    Plan,
    endless_blocks,
    numbered_blocks,
    plan_rounds,
    round_samples,
    whole_passes,
)
from edgebench.job import ScenarioJob
from edgebench.loadgen import Minimum, accuracy_schedule, issue_order, sample_schedule
from edgebench.profiles import MIN_PAIRED_BLOCKS
from edgebench.record import Record, SampleRow
from edgebench.scenarios import mode_rows
from edgebench.units import NS_PER_S

ACCURACY_BLOCK = 250  # samples per block of an accuracy run: where an interrupted one goes on


def blocks_begun(rows: Sequence[SampleRow]) -> list[int]:
    """Return the sizes in samples of the blocks that an earlier attempt finished, in order."""
    counts = Counter(row.block for row in rows)
    return [counts[block] for block in range(len(counts))]


def _policy(job: ScenarioJob) -> BlockPolicy:
    return block_policy(job.counts, is_metered=job.selection.primary is not None)


def queries_per_block(job: ScenarioJob, begun: Sequence[int]) -> int:
    """Return how many single-stream queries a block holds: as begun, else enough to last.

    A resumed run keeps the blocks of its first attempt, whatever the pilot says now.
    """
    return begun[0] if begun else _policy(job).size(job.per_query_ns.values())


def samples_per_round(job: ScenarioJob, begun: Sequence[int]) -> int:
    """Return how many samples an offline round holds, as begun, else enough to last."""
    fast_ns = min(job.per_query_ns.values()) / PROBE_CAUTION
    least = job.counts.samples_per_round or job.prepared.scored_count
    return begun[0] if begun else round_samples(least, fast_ns, job.min_block_s * NS_PER_S)


def performance_plan(job: ScenarioJob, record: Record, rows: Sequence[SampleRow]) -> Plan:
    """Cut the scenario into blocks; every kernel's block holds the same samples."""
    population, counts = job.prepared.scored_count, job.counts
    in_passes = counts.equal_issue and record.scenario == "single-stream"
    seed = record.seeds.sample_index
    begun = blocks_begun(mode_rows(rows, "fp16", "performance"))
    is_offline = record.scenario == "offline"
    size = (samples_per_round if is_offline else queries_per_block)(job, begun)
    minimum = Minimum(
        queries=max(counts.min_queries, 0 if is_offline else MIN_PAIRED_BLOCKS * size),
        duration_ns=int(counts.min_duration_s * NS_PER_S),
        multiple=population if in_passes else 1,
    )
    if counts.min_duration_s > 0:
        order = issue_order(seed, population, distinct=True)
        endless = (
            whole_passes(size, population, order) if in_passes else endless_blocks(size, order)
        )
        return Plan(scenario=record.scenario, blocks=endless, minimum=minimum)
    if is_offline:
        spans = plan_rounds(counts.min_queries, size)
    else:
        spans = _policy(job).spans(size)
    schedule = sample_schedule(seed, population, spans[-1].stop, distinct=True)
    return Plan(scenario=record.scenario, blocks=numbered_blocks(spans, schedule))


def accuracy_plan(job: ScenarioJob, record: Record, rows: Sequence[SampleRow]) -> Plan:
    """Every scored sample once, in order, by the same code path as the performance run."""
    population = job.prepared.scored_count
    step = population if record.scenario == "offline" else ACCURACY_BLOCK
    spans = [range(i, min(i + step, population)) for i in range(0, population, step)]
    blocks = numbered_blocks(spans, accuracy_schedule(population))
    return Plan(scenario=record.scenario, mode="accuracy", blocks=blocks)
