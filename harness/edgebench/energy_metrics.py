"""What measured energy bought: joules per query and token, tokens per joule, energy times delay.

Energy is divided only by the work done in the very blocks that it was measured over. Prefill and
decode are told apart where each lasts over a second in the median query, because a meter of ten
readings a second cannot see shorter ones.
Sources: joules per query of a single stream as in MLPerf's power rules (submission checker,
power_check.py); per output token as in the ML.ENERGY benchmark.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from edgebench.meters.integrate import Source, Window, integrate
from edgebench.meters.powercsv import Log
from edgebench.profiles import PHASE_MIN_S
from edgebench.record import Energy, EnergyMetrics, PhaseEnergy, SampleRow, Scenario
from edgebench.scenarios import measured_ns
from edgebench.units import NS_PER_S, format_duration

BATCHED = "offline: the phases of a batch overlap those of the next"


def energy_metrics(
    scenario: Scenario,
    rows: Sequence[SampleRow],
    prompt_tokens: Sequence[int],
    energy: Energy,
    log: Path | Log,
) -> EnergyMetrics | None:
    """Derive one kernel's metrics from its performance rows; None where energy is unmeasured."""
    queries = len({row.query for row in rows})
    if energy.joules is None or not rows:
        return None
    outputs = sum(len(row.output_ids) for row in rows)
    total = outputs + sum(prompt_tokens[row.sample] for row in rows)
    joules = energy.joules
    duration_s = measured_ns(rows) / NS_PER_S
    prefill, decode, reason = _phases(scenario, rows, prompt_tokens, energy, log)
    return EnergyMetrics(
        joules_per_query=joules / queries,
        joules_per_sample=joules / len(rows),
        joules_per_output_token=joules / outputs if outputs else None,
        joules_per_total_token=joules / total if total else None,
        tokens_per_joule=outputs / joules if outputs and joules else None,
        energy_delay_Js=joules / queries * duration_s / queries,
        prefill=prefill,
        decode=decode,
        phases_reason=reason,
    )


def _phases(
    scenario: Scenario,
    rows: Sequence[SampleRow],
    prompt_tokens: Sequence[int],
    energy: Energy,
    log: Path | Log,
) -> tuple[PhaseEnergy | None, PhaseEnergy | None, str | None]:
    """Integrate both phases, or say why not: (prefill, decode, reason)."""
    if scenario == "offline":
        return None, None, BATCHED
    prefill = [(row.issued_ns, row.first_token_ns) for row in rows]
    decode = [(row.first_token_ns, row.completed_ns) for row in rows]
    for name, windows in (("prefill", prefill), ("decode", decode)):
        median_s = statistics.median(end - start for start, end in windows) / NS_PER_S
        if median_s <= PHASE_MIN_S:
            lasts = format_duration(median_s)
            return None, None, f"{name} lasts {lasts}, not over {PHASE_MIN_S:g} s"
    source = Source(meter=str(energy.meter), domain=str(energy.domain))
    prompts = sum(prompt_tokens[row.sample] for row in rows)
    later = sum(len(row.output_ids) - 1 for row in rows)
    return _phase(log, prefill, source, prompts), _phase(log, decode, source, later), None


def _phase(log: Path | Log, windows: Sequence[Window], source: Source, tokens: int) -> PhaseEnergy:
    found = integrate(log, windows, source=source)
    return PhaseEnergy(
        joules=found.joules,
        mean_power_W=found.mean_power_W,
        coverage=found.coverage,
        error_bound_percent=found.error_bound_percent,
        joules_per_token=found.joules / tokens if found.joules is not None and tokens else None,
        reason=found.reason,
    )
