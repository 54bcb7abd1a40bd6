"""Writes the README table of results from the repository's own submissions: no number is typed."""

from __future__ import annotations

from pathlib import Path

from edgebench.bundle import find_bundles, read_bundle
from edgebench.record import Record
from edgebench.units import DASH, format_fraction, format_number

ROOT = Path(__file__).parent.parent
BEGIN = "<!-- results: written by `python docs/results.py` from submissions/ -->"
END = "<!-- end of results -->"
HEADINGS = (
    "workload", "scenario", "kernel", "p90 latency ms", "TPOT p90 ms", "samples/s",
    "speedup [95 % interval]",
    "exact match", "call NLL", "% of bandwidth", "% of compute", "weights MB",
)  # fmt: skip


def _share(percent: float | None) -> str:
    return DASH if percent is None else f"{percent:.0f} %"


def _cells(record: Record) -> list[list[str]]:
    rows = []
    for result in record.results:
        speedup = DASH
        if result.speedup is not None:
            low, high = result.speedup_ci95 or (None, None)
            speedup = f"**{result.speedup:.2f}x**"
            if low is not None and high is not None:
                speedup += f" [{low:.2f}, {high:.2f}]"
        rows.append(
            [
                record.workload.name,
                record.scenario,
                f"{result.kernel} ({result.executed_path})",
                format_number(result.latency_p90_ms),
                format_number(result.tpot_p90_ms),
                format_number(result.samples_per_s),
                speedup,
                format_fraction(result.accuracy),
                DASH if result.call_nll is None else f"{result.call_nll:.4f}",
                _share(result.roofline.percent_of_bandwidth),
                _share(result.roofline.percent_of_compute),
                format_number(None if result.weight_bytes is None else result.weight_bytes / 1e6),
            ]
        )
    return rows


def results_markdown(submissions: Path) -> str:
    """Return a heading per system and a table of its newest bundle per workload and scenario."""
    newest: dict[tuple[str, str, str], Record] = {}
    for path in find_bundles(submissions):
        record = read_bundle(path).record
        if record.external is not None:
            continue  # nobody checked its weights: it stands on the leaderboard, labelled
        newest[record.system, record.workload.name, record.scenario] = record
    lines: list[str] = []
    for system in sorted({key[0] for key in newest}):
        records = [record for key, record in newest.items() if key[0] == system]
        records.sort(key=lambda record: record.scenario, reverse=True)  # single-stream first
        records.sort(key=lambda record: record.workload.name)
        threads = records[0].host.threads
        lines += [f"`{system}`, {threads} threads, profile `{records[0].profile}`:", ""]
        lines += ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
        lines += ["| " + " | ".join(row) + " |" for record in records for row in _cells(record)]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Replace what stands between the two marks in README.md."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    _, after = rest.split(END)
    table = results_markdown(ROOT / "submissions")
    readme.write_text(f"{before}{BEGIN}\n{table}{END}{after}")


if __name__ == "__main__":
    main()
