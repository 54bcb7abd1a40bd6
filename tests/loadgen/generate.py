"""One run of one generator in a process of its own, its latencies written as JSON.

    python generate.py {loadgen,edgebench} {no-op,sleeping} QUERIES PERCENTILE DIRECTORY

A process each, because LoadGen keeps process-wide state and ends the process on an exception.
"""

from __future__ import annotations

import array
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgebench import stats
from edgebench.loadgen import QuerySample, run_single_stream, sample_schedule

POPULATION = 64
WORK: dict[str, Callable[[int], None]] = {
    "no-op": lambda index: None,
    "sleeping": lambda index: time.sleep(200e-6 + 10e-6 * index),  # as inputs of many sizes do
}


class Sut:
    """Does the work of one sample and answers with one token."""

    def __init__(self, kind: str) -> None:
        self.name = kind
        self._work = WORK[kind]

    def issue_query(
        self,
        samples: Sequence[QuerySample],
        first_token: Callable[[int], None],
        complete: Callable[[int, Sequence[int]], None],
    ) -> None:
        for sample in samples:
            self._work(sample.index)
            complete(sample.id, [0])


def with_edgebench(kind: str, queries: int, percentile: float) -> dict[str, Any]:
    """Run our generator over the same SUT."""
    schedule = sample_schedule(2747215439041700203, POPULATION, queries, distinct=False)
    timings = list(run_single_stream(Sut(kind), schedule))
    latencies_ns = [timing.completed_ns - timing.issued_ns for timing in timings]
    estimate = stats.early_stopping_estimate_ns(latencies_ns, percentile)
    return {
        "latencies_ns": latencies_ns,
        "discarded": estimate.discarded if estimate else None,
        "estimate_ns": estimate.estimate_ns if estimate else None,
    }


def with_loadgen(kind: str, queries: int, percentile: float, directory: Path) -> dict[str, Any]:
    """Run MLPerf LoadGen; latencies come from its trace, to the ns."""
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = queries
    settings.min_duration_ms = 0
    settings.single_stream_expected_latency_ns = 1_000_000
    settings.single_stream_target_latency_percentile = percentile
    settings.qsl_rng_seed = 2085463073848966840
    settings.sample_index_rng_seed = 2747215439041700203
    settings.schedule_rng_seed = 16159082839903944936
    output = lg.LogOutputSettings()
    output.outdir = str(directory)
    logs = lg.LogSettings()
    logs.log_output = output
    logs.enable_trace = True
    answer = array.array("b", [0])
    work = WORK[kind]

    def issue(samples: list[Any]) -> None:
        for sample in samples:
            work(sample.index)
            response = lg.QuerySampleResponse(sample.id, answer.buffer_info()[0], 1)
            lg.QuerySamplesComplete([response])

    sut = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(POPULATION, POPULATION, lambda _: None, lambda _: None)
    lg.StartTestWithLogSettings(sut, library, settings, logs, "no-audit")
    lg.DestroyQSL(library)
    lg.DestroySUT(sut)
    return read_loadgen(directory)


def read_loadgen(directory: Path) -> dict[str, Any]:
    """Read LoadGen's latencies from its trace, and what it says of them from its detail log.

    The trace is no valid JSON: keys of its LogDetail events are quoted twice.
    """
    trace = (directory / "mlperf_log_trace.json").read_text()
    prefix = ":::MLLOG "
    lines = (directory / "mlperf_log_detail.txt").read_text().splitlines()
    entries = [json.loads(line[len(prefix) :]) for line in lines if line.startswith(prefix)]
    return {
        "latencies_ns": [int(found) for found in re.findall(r'"complete_ns":(\d+)', trace)],
        "log": {entry["key"]: entry["value"] for entry in entries},
    }


def main() -> None:
    generator, kind, queries, percentile, directory = sys.argv[1:]
    target = Path(directory)
    if generator == "loadgen":
        result = with_loadgen(kind, int(queries), float(percentile), target)
    else:
        result = with_edgebench(kind, int(queries), float(percentile))
    (target / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
