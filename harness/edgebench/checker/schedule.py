"""Schedule: time runs forward, the kernels take turns, and the seeds chose the samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from edgebench.checker.subject import Subject
from edgebench.findings import Finding, finding
from edgebench.loadgen import issue_order
from edgebench.profiles import SAMPLE_INDEX_SEED, SCHEDULE_SEED
from edgebench.record import Kernel, SampleRow, Seeds

RULEBOOK_SEEDS = Seeds(sample_index=SAMPLE_INDEX_SEED, schedule=SCHEDULE_SEED)

Span = tuple[int, int, str]  # first issue, last completion, name
BlockKey = tuple[str, Kernel, int]  # mode, kernel, block


def _blocks(subject: Subject) -> dict[BlockKey, list[SampleRow]]:
    blocks: dict[BlockKey, list[SampleRow]] = {}
    for row in subject.bundle.samples:
        blocks.setdefault((row.mode, row.kernel, row.block), []).append(row)
    return blocks


def _span(rows: Sequence[SampleRow], name: str) -> Span:
    return min(row.issued_ns for row in rows), max(row.completed_ns for row in rows), name


def check_times(subject: Subject) -> Iterator[Finding]:
    """D-05: each row's times are in order, and nothing that runs alone overlaps."""
    for row in subject.bundle.samples:
        if not row.issued_ns <= row.first_token_ns <= row.completed_ns:
            came = f"{row.issued_ns}, {row.first_token_ns}, {row.completed_ns}"
            where = f"{row.kernel} query {row.query}"
            yield finding("D-05", f"issue <= first token <= completion in {where}", came)
            return
    spans = []
    for (mode, kernel, block), rows in _blocks(subject).items():
        name = f"{kernel} {mode} block {block}"
        spans.append(_span(rows, name))
        if subject.bundle.record.scenario == "single-stream" and mode == "performance":
            queries = [_span([row], f"{kernel} query {row.query}") for row in rows]
            yield from _overlaps(queries)
    yield from _overlaps(spans)


def _overlaps(spans: list[Span]) -> Iterator[Finding]:
    """Report the first pair that overlaps."""
    for before, after in pairwise(sorted(spans)):
        if after[0] < before[1]:
            came = f"an overlap of {(before[1] - after[0]) / 1e6:.3f} ms"
            yield finding("D-05", f"{after[2]} after {before[2]}", came)
            return


def check_rows(subject: Subject) -> Iterator[Finding]:
    """D-07: no row twice, no sample from outside the scored set; an accuracy sample once.

    An offline round has a sample as often as it meets passes over the set: those that it holds, and
    one more where it goes on from one to the next.
    """
    size = subject.workload.scored_count
    is_single = subject.bundle.record.scenario == "single-stream"
    passes = {} if is_single else _passes(subject.bundle.samples, size)
    seen: Counter[tuple[object, ...]] = Counter()
    for row in subject.bundle.samples:
        where = f"{row.kernel} {row.mode} query {row.query} sample {row.sample}"
        if row.sample >= size:
            yield finding("D-07", f"samples below {size}", where)
            return
        most = 1
        if row.mode == "accuracy":
            key: tuple[object, ...] = (row.kernel, row.mode, row.sample)
        elif is_single:
            key = (row.kernel, row.mode, row.query)
        else:
            key = (row.kernel, row.mode, row.query, row.sample)
            most = passes[row.kernel, row.query]
        seen[key] += 1
        if seen[key] > most:
            came = f"{where} {'twice' if most == 1 else f'{seen[key]} times'}"
            yield finding("D-07", "every row once" if most == 1 else f"at most {most} passes", came)
            return


def _passes(rows: Sequence[SampleRow], size: int) -> dict[tuple[Kernel, int], int]:
    """How many passes over `size` samples each kernel's performance rounds meet, by their queries.

    Rounds follow each other in the schedule, as their queries are numbered.
    """
    rounds = Counter((row.kernel, row.query) for row in rows if row.mode == "performance")
    ends: Counter[Kernel] = Counter()
    passes = {}
    for (kernel, query), samples in sorted(rounds.items()):
        start = ends[kernel]
        ends[kernel] = start + samples
        passes[kernel, query] = (ends[kernel] - 1) // size - start // size + 1
    return passes


def check_pairs(subject: Subject) -> Iterator[Finding]:
    """D-06: both kernels run the same, and who goes first alternates in A B B A order.

    Where measured time says when a kernel ends, the faster one goes on alone after the slower.
    """
    kernels = subject.pair
    queries: dict[Kernel, dict[tuple[int, int], list[int]]] = {kernel: {} for kernel in kernels}
    for row in subject.bundle.samples:
        if row.mode == "performance" and row.kernel in queries:
            queries[row.kernel].setdefault((row.block, row.query), []).append(row.sample)
    reference, candidate = (queries[kernel] for kernel in kernels)
    keys = reference.keys() | candidate.keys()
    if subject.counts.min_duration_s > 0:
        ends = [max((block for block, _ in own), default=-1) for own in (reference, candidate)]
        keys = {key for key in keys if key[0] <= min(ends)}
    for key in sorted(keys):
        if sorted(reference.get(key, ())) != sorted(candidate.get(key, ())):
            expected = f"{' and '.join(kernels)} to run the same samples"
            yield finding("D-06", expected, f"different ones in block {key[0]}, query {key[1]}")
            return
    yield from _check_turns(subject)


def _check_turns(subject: Subject) -> Iterator[Finding]:
    kernels = subject.pair
    spans = {
        (kernel, block): _span(rows, "")
        for (mode, kernel, block), rows in _blocks(subject).items()
        if mode == "performance" and kernel in kernels
    }
    order = [key for key, _ in sorted(spans.items(), key=lambda item: item[1])]
    expected = [
        (kernel, block)
        for block in sorted({block for _, block in spans})
        for kernel in (kernels if block % 2 == 0 else tuple(reversed(kernels)))
        if (kernel, block) in spans
    ]
    for came, due in zip(order, expected, strict=True):
        if came != due:
            expected_text = f"{due[0]} block {due[1]} next, in A B B A order"
            yield finding("D-06", expected_text, f"{came[0]} block {came[1]}")
            return


def check_equal_issue(subject: Subject) -> Iterator[Finding]:
    """D-10: every sample is issued equally often, up to one; in whole passes where demanded."""
    record = subject.bundle.record
    most_apart = 0 if subject.counts.equal_issue else 1
    for kernel in subject.kernels:
        issued = Counter(row.sample for row in subject.rows(kernel, "performance"))
        counts = [issued[sample] for sample in range(subject.workload.scored_count)]
        if issued and max(counts) - min(counts) > most_apart:
            expected = "equally often" + (", up to one" if most_apart else "")
            text = f"{kernel} to be issued every sample {expected} ({record.profile})"
            yield finding("D-10", text, f"{min(counts)} to {max(counts)} times")


def check_seeds(subject: Subject) -> Iterator[Finding]:
    """D-08: the seeds are the rulebook's, and the samples come in the order that they give."""
    record = subject.bundle.record
    if record.seeds != RULEBOOK_SEEDS:
        yield finding("D-08", f"the seeds {RULEBOOK_SEEDS}", record.seeds)
        return
    for kernel in subject.kernels:
        rows = subject.rows(kernel, "performance")
        rows.sort(key=lambda row: (row.block, row.query))  # stable: a round keeps its order
        order = issue_order(record.seeds.sample_index, subject.workload.scored_count, distinct=True)
        for position, (row, due) in enumerate(zip(rows, order, strict=False)):
            if row.sample != due:
                yield finding("D-08", f"{kernel} sample {due} at position {position}", row.sample)
                break
