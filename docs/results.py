"""Writes the tables of results from the repository's own submissions: no number is typed.

The closed track's stands in README.md, the open track's beside it in docs/open-track.md.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open

from edgebench.bundle import find_bundles, read_bundle
from edgebench.record import KernelResult, Ledger, Record
from edgebench.units import DASH, format_fraction, format_number
from edgebench_workloads.catalog import WORKLOADS

ROOT = Path(__file__).parent.parent
BEGIN = "<!-- results: written by `python docs/results.py` from submissions/ -->"
END = "<!-- end of results -->"
CODED_BEGIN = "<!-- stages: written by `python docs/results.py` from submissions/ -->"
CODED_END = "<!-- end of stages -->"
HEADINGS = (
    "workload", "scenario", "kernel", "p90 latency ms", "TPOT p90 ms", "samples/s",
    "speedup [95 % interval]",
    "exact match", "call NLL", "% of bandwidth", "% of compute", "weights MB",
)  # fmt: skip
OPEN_HEADINGS = (
    "workload", "model", "kernel", "right", "NLL", "p90 latency ms", "samples/s",
    "speedup [95 % interval]", "weights MB", "stored MB", "bits a weight", "entropy bound",
    "parameters", "not zero",
)  # fmt: skip
CODED_HEADINGS = ("stage", "bytes", "ratio", "right")


def _share(percent: float | None) -> str:
    return DASH if percent is None else f"{percent:.0f} %"


def _speedup(result: KernelResult) -> str:
    if result.speedup is None:
        return DASH
    low, high = result.speedup_ci95 or (None, None)
    ends = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"**{result.speedup:.2f}x**{ends}"


def _megabytes(size_bytes: float | None) -> str:
    return format_number(None if size_bytes is None else size_bytes / 1e6)


def _cells(record: Record) -> list[list[str]]:
    return [
        [
            record.workload.name,
            record.scenario,
            f"{result.kernel} ({result.executed_path})",
            format_number(result.latency_p90_ms),
            format_number(result.tpot_p90_ms),
            format_number(result.samples_per_s),
            _speedup(result),
            format_fraction(result.accuracy),
            DASH if result.call_nll is None else f"{result.call_nll:.4f}",
            _share(result.roofline.percent_of_bandwidth),
            _share(result.roofline.percent_of_compute),
            _megabytes(result.weight_bytes),
        ]
        for result in record.results
    ]


def results_markdown(submissions: Path) -> str:
    """Return a heading per system and profile, with its newest bundle per workload and scenario."""
    newest: dict[tuple[str, str, str], Record] = {}
    for path in find_bundles(submissions):
        record = read_bundle(path).record
        if record.external is not None or record.track == "open":
            continue  # nobody checked an engine's weights: it stands on the leaderboard, labelled
        newest[record.system, record.workload.name, record.scenario] = record
    lines: list[str] = []
    for system, profile in sorted({(key[0], record.profile) for key, record in newest.items()}):
        records = [
            record
            for key, record in newest.items()
            if (key[0], record.profile) == (system, profile)
        ]
        records.sort(key=lambda record: record.scenario, reverse=True)  # single-stream first
        records.sort(key=lambda record: record.workload.name)
        threads = records[0].host.threads
        lines += [f"`{system}`, {threads} threads, profile `{profile}`:", ""]
        lines += ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
        lines += ["| " + " | ".join(row) + " |" for record in records for row in _cells(record)]
        lines.append("")
    return "\n".join(lines)


def open_markdown(submissions: Path) -> str:
    """Return a heading per system and a table of its newest bundle per workload and transform.

    Each workload begins with its closed bundle, where the system has one: both in single-stream.
    """
    newest: dict[tuple[str, str, str, str], tuple[Path, Record, Ledger | None]] = {}
    for path in find_bundles(submissions):
        bundle = read_bundle(path)
        record = bundle.record
        if record.external is not None or record.scenario != "single-stream":
            continue
        transform = record.results[-1].transform if record.track == "open" else ""
        key = record.system, record.workload.name, record.track, transform
        newest[key] = path, record, bundle.ledger
    shown = {key[:2] for key in newest if key[2] == "open"}
    lines: list[str] = []
    for system in sorted({system for system, _ in shown}):
        lines += [f"`{system}`, single-stream:", ""]
        lines += ["| " + " | ".join(OPEN_HEADINGS) + " |", "|" + " --- |" * len(OPEN_HEADINGS)]
        for key in sorted(key for key in newest if key[0] == system and key[:2] in shown):
            lines += ["| " + " | ".join(row) + " |" for row in _open_cells(*newest[key])]
        lines.append("")
    return "\n".join(lines)


def _tensor_bytes(file: Path) -> dict[str, int]:
    """Bytes of each tensor of a safetensors file."""
    with safe_open(file, framework="numpy") as opened:
        return {name: opened.get_tensor(name).nbytes for name in opened.keys()}  # noqa: SIM118


def _closed_bytes(path: Path, record: Record, ledger: Ledger, result: KernelResult) -> int | None:
    """A model of the closed track on disk: INT4 tensors where quantized, fp16 elsewhere."""
    if result.cost is not None:
        return result.cost.model_bytes
    directory = WORKLOADS[record.workload.name].reference_directory()
    reference = _tensor_bytes(directory / "model.safetensors")
    if result.kernel == "fp16":
        return sum(reference.values())
    if ledger.tensors_file is None:
        return None
    quantized = {f"{name}.weight" for name in ledger.tensors}
    kept = [size for name, size in reference.items() if name not in quantized]
    return sum(kept) + sum(_tensor_bytes(path / ledger.tensors_file).values())


def _open_cells(path: Path, record: Record, ledger: Ledger | None) -> list[list[str]]:
    rows = []
    for result in record.results:
        if record.track == "open" and result.kernel == "fp16":
            continue  # the reference stands once, in the closed bundle's rows
        counted = ledger and (ledger.open_model or ledger.open_subnet or ledger.open_network)
        stored: float | None = None
        if counted:
            stored = counted.bits_per_weight * counted.params_total / 8
        elif ledger:
            stored = _closed_bytes(path, record, ledger, result)
        rows.append(
            [
                record.workload.name,
                "reference" if result.kernel == "fp16" else f"`{result.transform}`",
                f"{result.kernel} ({result.executed_path})",
                format_fraction(result.accuracy),
                DASH if result.call_nll is None else f"{result.call_nll:.4f}",
                format_number(result.latency_p90_ms),
                format_number(result.samples_per_s),
                _speedup(result),
                _megabytes(result.weight_bytes),
                _megabytes(stored),
                f"{counted.bits_per_weight:.2f}" if counted else DASH,
                f"{counted.entropy_bits_per_weight:.2f}" if counted else DASH,
                f"{counted.params_total:,}" if counted else DASH,
                f"{counted.params_nonzero / counted.params_total:.0%}" if counted else DASH,
            ]
        )
    return rows


def coded_markdown(submissions: Path) -> str:
    """Return, for every bundle with a coded file, its stages as in Deep Compression's tables."""
    lines: list[str] = []
    for path in find_bundles(submissions):
        bundle = read_bundle(path)
        network = bundle.ledger.open_network if bundle.ledger else None
        if network is None or (coded := network.coded) is None:
            continue
        reference, candidate = bundle.record.results
        lines += [f"`{bundle.record.system}`, `{bundle.record.workload.name}`:", ""]
        lines += [f"`{candidate.transform}`", "", "| " + " | ".join(CODED_HEADINGS) + " |"]
        lines += ["|" + " --- |" * len(CODED_HEADINGS)]
        whole = coded.reference_bytes
        stages = (
            ("reference, fp32", whole, format_fraction(reference.accuracy)),
            ("pruned: fp32 values and gaps", coded.pruned_bytes, ""),
            ("shared: codebooks and codes", coded.shared_bytes, ""),
            ("Huffman coded: `coded.bin`", coded.size_bytes, format_fraction(candidate.accuracy)),
            ("entropy bound of its symbols", coded.entropy_bytes, ""),
        )
        for name, size, right in stages:
            lines.append(f"| {name} | {size:,.0f} | {whole / size:.1f}x | {right} |")
        share = f"{network.params_nonzero / network.params_total:.0%}"
        lines += ["", f"{coded.bits_per_weight:.2f} bits for each of {network.params_total:,} "
                  f"parameters, of which {share} are not zero."]  # fmt: skip
        lines.append("")
    return "\n".join(lines)


def _replace(page: Path, table: str, begin: str = BEGIN, end: str = END) -> None:
    """Put a table between the two marks of a page."""
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{table}{end}{after}")


def main() -> None:
    """Write every table."""
    _replace(ROOT / "README.md", results_markdown(ROOT / "submissions"))
    page = ROOT / "docs" / "open-track.md"
    _replace(page, open_markdown(ROOT / "submissions"))
    _replace(page, coded_markdown(ROOT / "submissions"), CODED_BEGIN, CODED_END)


if __name__ == "__main__":
    main()
