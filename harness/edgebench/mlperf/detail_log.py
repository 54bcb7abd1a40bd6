"""`mlperf_log_detail.txt`: the keys that MLPerf's checker reads, each derived from the rows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence

from edgebench import stats
from edgebench.mlperf.kernel_run import NOTICE, KernelRun
from edgebench.profiles import EARLY_STOPPING_CONFIDENCE, LATENCY_PERCENTILE, QSL_SEED
from edgebench.units import NS_PER_S

MARKER = ":::MLLOG"
PERCENTILES = (0.50, 0.90, 0.95, 0.97, 0.99, 0.999)  # LoadGen results.cc
TAIL = 0.99  # of early_stopping_latency_ms, MultiStream's metric: 0 without 662 queries

Entries = dict[str, object]


def performance_entries(run: KernelRun) -> Entries:
    """Return key -> value of the performance run's log, in LoadGen's order."""
    return {
        **_head(run),
        **_settings(run, "PerformanceOnly"),
        "generated_query_count": run.result.queries,
        "generated_samples_per_query": run.samples_per_query,
        **_verdict(run),
        **_latencies(run),
        **_tokens(run),
        "num_errors": 0,
        "num_warnings": len(run.result.warnings),
    }


def accuracy_entries(run: KernelRun) -> Entries:
    """Return key -> value of the accuracy run's log."""
    mode = "AccuracyOnly" if run.had_accuracy_run else "PerformanceOnly"
    return {
        **_head(run),
        **_settings(run, mode),
        "effective_accuracy_sample_count": len(run.scored),
        "num_errors": 0,
        "num_warnings": 0,
    }


def detail_text(entries: Mapping[str, object]) -> str:
    """Write entries as LoadGen's log lines; times within the log are not known."""
    metadata = {"is_error": False, "is_warning": False, "file": "edgebench", "line_no": None}
    lines = (
        {
            "key": key,
            "value": value,
            "time_ms": None,
            "namespace": "mlperf::logging",
            "event_type": "POINT_IN_TIME",
            "metadata": metadata,
        }
        for key, value in entries.items()
    )
    return "".join(f"{MARKER} {json.dumps(line, allow_nan=False)}\n" for line in lines)


def _head(run: KernelRun) -> Entries:
    record = run.record
    return {
        "edgebench_notice": NOTICE,
        "loadgen_version": f"none: EdgeBench {record.provenance.tool_version}",
        "test_datetime": record.provenance.started_utc,
        "sut_name": f"EdgeBench {run.result.kernel} ({run.result.executed_path})",
        "qsl_name": run.workload.name,
        "qsl_reported_total_count": run.workload.scored_count,
        "qsl_reported_performance_count": run.workload.scored_count,
    }


def _settings(run: KernelRun, mode: str) -> Entries:
    counts, seeds = run.counts, run.record.seeds
    effective = {
        "scenario": run.scenario,
        "test_mode": mode,
        "samples_per_query": run.samples_per_query,
        "target_latency_percentile": LATENCY_PERCENTILE,
        "min_duration_ms": round(1000 * counts.min_duration_s),
        "min_query_count": counts.min_queries,
        "qsl_rng_seed": QSL_SEED,
        "sample_index_rng_seed": seeds.sample_index,
        "schedule_rng_seed": seeds.schedule,
        "performance_sample_count": run.workload.scored_count,
        "sample_concatenate_permutation": True,
    }
    requested = {"requested_use_token_latencies": run.is_streamed}
    return requested | {f"effective_{key}": value for key, value in effective.items()}


def _verdict(run: KernelRun) -> Entries:
    result, counts = run.result, run.counts
    has_estimate = run.scenario != "SingleStream" or result.latency_p90_ms is not None
    entries: Entries = {
        "result_validity": "VALID" if result.valid and has_estimate else "INVALID",
        "result_min_duration_met": result.duration_s >= counts.min_duration_s,
        "result_min_queries_met": result.queries >= counts.min_queries,
        "early_stopping_met": has_estimate,
        "result_query_count": result.queries,
    }
    if run.scenario == "SingleStream":
        p90 = _estimate_ns(_latencies_ns(run), LATENCY_PERCENTILE)
        entries["early_stopping_result"] = (
            f"p90 estimate at {EARLY_STOPPING_CONFIDENCE:.0%} confidence: {p90} ns"
        )
    return entries


def _latencies_ns(run: KernelRun) -> list[int]:
    return [row.completed_ns - row.issued_ns for row in run.performance]


def _estimate_ns(latencies_ns: Sequence[int], percentile: float) -> int:
    """Return LoadGen's early-stopping estimate, 0 with too few queries as LoadGen writes it."""
    found = stats.early_stopping_estimate_ns(latencies_ns, percentile, EARLY_STOPPING_CONFIDENCE)
    return found.estimate_ns if found else 0


def _latencies(run: KernelRun) -> Entries:
    latencies_ns = _latencies_ns(run)
    entries: Entries = {}
    if run.scenario == "SingleStream":
        rate = run.result.samples_per_s
        entries["result_qps_with_loadgen_overhead"] = rate
        entries["result_qps_without_loadgen_overhead"] = (
            len(latencies_ns) * NS_PER_S / sum(latencies_ns)
        )
        entries["early_stopping_latency_ss"] = _estimate_ns(latencies_ns, LATENCY_PERCENTILE)
        entries["early_stopping_latency_ms"] = _estimate_ns(latencies_ns, TAIL)
    else:
        entries["result_samples_per_second"] = run.result.samples_per_s
    entries |= {
        "result_min_latency_ns": min(latencies_ns),
        "result_max_latency_ns": max(latencies_ns),
        "result_mean_latency_ns": round(statistics.fmean(latencies_ns)),
    }
    return entries | dict(_percentiles("result_{}_percentile_latency_ns", latencies_ns))


def _percentiles(name: str, values: Sequence[float]) -> Iterator[tuple[str, object]]:
    for percentile in PERCENTILES if values else ():
        value = stats.percentile_raw(values, percentile)
        yield name.format(f"{100 * percentile:.2f}"), value


def _tokens(run: KernelRun) -> Entries:
    if not run.is_streamed:
        return {}
    ttfts_ns, tpots_ns = [], []
    for row in run.performance:
        ttft_ns = stats.ttft_ns(row.issued_ns, row.first_token_ns)
        ttfts_ns.append(ttft_ns)
        each = stats.tpot_ns(row.completed_ns - row.issued_ns, ttft_ns, len(row.output_ids))
        tpots_ns += [] if each is None else [each]
    entries: Entries = {"result_tokens_per_second": run.result.tokens_per_s}
    if run.scenario != "SingleStream":
        return entries  # inside a round of all samples a token's time says where a batch stood
    return (
        entries
        | dict(_percentiles("result_first_token_{}_percentile_latency_ns", ttfts_ns))
        | dict(_percentiles("result_time_per_output_token_{}_percentile_ns", tpots_ns))
    )
