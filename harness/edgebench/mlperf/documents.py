"""The prose of an export: what each folder holds, how it was made, what it is not."""

from __future__ import annotations

from edgebench.mlperf.kernel_run import NOTICE, UNKNOWN, KernelRun


def user_conf(run: KernelRun) -> str:
    """Write the settings that a submitter chooses, in LoadGen's form; here the profile's."""
    name = f"{run.workload.name}.{run.scenario}"
    counts = run.counts
    return (
        f"# {NOTICE}\n"
        f"# Profile {run.record.profile}; stamps: {', '.join(run.record.stamps) or 'none'}\n"
        f"{name}.min_duration = {round(1000 * counts.min_duration_s)}\n"
        f"{name}.min_query_count = {counts.min_queries}\n"
        f"{name}.sample_concatenate_permutation = 1\n"
    )


def run_readme(run: KernelRun) -> str:
    """Say where this folder's numbers come from."""
    record, result = run.record, run.result
    return f"""# {run.workload.name}, {run.scenario}, {result.kernel}

{NOTICE}

- Made by `bench export mlperf` from the EdgeBench bundle {record.run_id}, which keeps every rule of
  its rulebook. Each number is derived from the bundle's rows again.
- Measured by: `{record.provenance.command}`
- Profile: {record.profile}; stamps: {", ".join(record.stamps) or "none"}.
- Workload: {record.workload.disclosure or "the trained model itself, not widened"}
- Executed: {result.executed_path}; both kernels of the bundle ran in turns, in one process.
- `early_stopping_latency_ss` is of the whole answer, as the rules have it; LoadGen writes the time
  to the first token there when token latencies are on.
- Offline has one query per round of the whole set, and LoadGen one query in all.
- `qsl_rng_seed` is MLPerf v6.1's, and nothing is drawn from it: the set is loaded whole. The order
  comes from `sample_index_rng_seed` by Python's mt19937, so it is not LoadGen's order.
- `mlperf_log_accuracy.json` keeps both ends of a longer log; `hash` is of the whole.
"""


def tree_readme(run: KernelRun) -> str:
    """Say what the tree is."""
    return f"""# An EdgeBench bundle in MLPerf's directory layout

{NOTICE}

Each kernel of the bundle is a system of its own (`{run.record.system}-fp16`, `-int4`).
`summary.csv` and `summary.json` have the columns of the table that MLPerf's checker writes.
What the bundle does not say is `{UNKNOWN}`. `status` is `rdi`, because nobody declared more.
"""


def source_readme(run: KernelRun) -> str:
    """Say where the code is."""
    record = run.record.provenance
    return f"""# Source

{NOTICE}

EdgeBench {record.tool_version}, git commit {record.git_commit or UNKNOWN}, \
uncommitted changes: {UNKNOWN if record.git_dirty is None else record.git_dirty}.
Repeat it with `{record.command}`.
"""


def calibration(run: KernelRun) -> str:
    """Describe the quantization, as MLPerf's closed division demands."""
    steps = "\n".join(
        f"- `{step.transform}` with {dict(step.parameters)}; calibration set: "
        f"{step.calibration_sha256 or 'none'}"
        for step in run.bundle.ledger.steps
    )
    return f"""# Quantization of the int4 kernel

{NOTICE}

{_rounded(run)}

{steps}
"""


def _rounded(run: KernelRun) -> str:
    grid = "4 bits, one fp16 scale and one zero point a group; no retraining."
    if run.is_streamed:
        return f"Weights of every linear layer, {grid}"
    others = "8 bits, one scale a channel" if run.bundle.ledger.convolutions else "fp16"
    return f"Weights of every 1x1 convolution and of the classifier, {grid} Other layers: {others}."


def power_readme(run: KernelRun) -> str:
    """Say what the power rows are, and what they are not."""
    energy = run.result.energy
    return f"""# Power

{NOTICE}

`power.csv` holds the readings of `{energy.meter}`, domain `{energy.domain}`, coverage
{energy.coverage}. It is no log of SPEC PTDaemon, and no wall power: MLPerf's power checks cannot
pass on it.
"""
