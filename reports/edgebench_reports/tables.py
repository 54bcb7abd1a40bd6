"""The leaderboard's tables: which columns a scenario shows, what each means, how cells read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgebench.record import kernel_title
from edgebench.units import DASH, format_number
from edgebench_reports.columns import OFFLINE, SINGLE, Cell, Column
from edgebench_reports.entries import Entry, Submission, verdict
from edgebench_reports.learning_cost import learning_columns
from edgebench_reports.power_mode import power_mode

BYTES_PER_MB = 1e6
ALWAYS_SHOWN = ("workload", "system", "kernel", "verdict")
HEADING_CHARACTERS = 40
TONES = {
    "INVALID": "bad",
    "simulated": "bad",
    "accuracy missed": "bad",
    "no accuracy": "bad",
    "valid": "good",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One scenario's table."""

    scenario: str
    columns: tuple[Column, ...]
    rows: list[list[Cell]]
    entries: list[Entry]


def _word(
    get: Callable[[Entry], str | None],
    note: Callable[[Entry], str] | None = None,
    tone: Callable[[Entry], str] | None = None,
    link: Callable[[Entry], str] | None = None,
) -> Callable[[Entry], Cell]:
    def cell(entry: Entry) -> Cell:
        value = get(entry)
        return Cell(
            text=value or DASH,
            value=value,
            note=note(entry) if note else "",
            tone=tone(entry) if tone else "",
            link=link(entry) if link else "",
        )

    return cell


def _number(
    get: Callable[[Entry], float | None],
    show: Callable[[float], str] = format_number,
    note: Callable[[Entry], str] | None = None,
) -> Callable[[Entry], Cell]:
    def cell(entry: Entry) -> Cell:
        value = get(entry)
        if value is None:
            return Cell(text=DASH, value=None)
        return Cell(text=show(value), value=value, note=note(entry) if note else "")

    return cell


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _percent(value: float) -> str:
    return f"{value:.1f}"


def _bound(index: int) -> Callable[[Entry], float | None]:
    def get(entry: Entry) -> float | None:
        interval = entry.result.speedup_ci95
        return None if interval is None else interval[index]

    return get


def interval_text(interval: tuple[float, float] | None) -> str:
    """Show an interval as '2.35 to 2.48'."""
    return DASH if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def _rank(entry: Entry) -> Cell:
    if entry.rank is None:
        return Cell(text=DASH, value=None, note=verdict(entry))
    return Cell(text=str(entry.rank), value=entry.rank)


def _stamped(entry: Entry) -> str:
    return " · ".join((entry.record.profile, *entry.record.stamps))


def _submitter(entry: Entry) -> str:
    return f"{entry.record.organisation} · {entry.record.host.device}"


def _of_reference(entry: Entry) -> str:
    ratio = entry.result.accuracy_ratio
    return "" if ratio is None or entry.result.kernel == "fp16" else f"{100 * ratio:.1f} of fp16"


HEAD: tuple[Column, ...] = (
    Column(heading="rank", is_number=True, cell=_rank,
           meaning="Place among the valid INT4 entries of the same track, workload, scenario, "
                   "profile and device; external engines are ranked among themselves. Energy, "
                   "power and memory do not enter it."),
    Column(heading="workload", has_choices=True,
           cell=_word(lambda e: e.record.workload.name, note=_stamped),
           meaning="The task and its model; below it the profile and its stamps: "
                   "NON-COMPLIANT-DURATION is shorter than MLPerf's minimum. name@size is the same "
                   "model widened by an exactly function-preserving expansion, so that its weights "
                   "outgrow the caches."),
    Column(heading="system", has_choices=True,
           cell=_word(lambda e: e.record.system, note=_submitter),
           meaning="The machine, named by the tool from what it is; below it who submitted the "
                   "run, and the device that it was made for."),
    Column(heading="device", has_choices=True, is_shown=False,
           cell=_word(lambda e: e.record.host.device),
           meaning="The device that the run was made for."),
    Column(heading="track", has_choices=True,
           cell=_word(lambda e: e.record.track, note=lambda e: e.open_transform),
           meaning="closed: post-training quantization of the reference's weights only; open: "
                   "anything, declared; below it what was done to the model."),
    Column(heading="organisation", has_choices=True, is_shown=False,
           cell=_word(lambda e: e.record.organisation),
           meaning="Who submitted the run."),
    Column(heading="kernel", has_choices=True,
           cell=_word(lambda e: kernel_title(e.result.kernel),
                      note=lambda e: e.result.executed_path, tone=lambda e: e.result.kernel),
           meaning="fp16 is the reference of the same run; an external engine is a server behind "
                   "HTTP, whose weights nobody checked; below it the path that really ran."),
    Column(heading="transform", is_shown=False, has_choices=True,
           cell=_word(lambda e: e.result.transform), meaning="What was done to the weights."),
    Column(heading="p90 ms", is_number=True, scenarios=SINGLE,
           cell=_number(lambda e: e.result.latency_p90_ms),
           meaning="Latency of a whole answer, 90th percentile: MLPerf's early-stopping estimate "
                   "at 99 % confidence. Ranks single-stream; lower is better."),
    Column(heading="samples/s", is_number=True, scenarios=OFFLINE,
           cell=_number(lambda e: e.result.samples_per_s),
           meaning="Commands answered per second. Ranks offline; higher is better."),
    Column(heading="p50 ms", is_number=True, scenarios=SINGLE, is_shown=False,
           cell=_number(lambda e: e.result.latency_p50_ms),
           meaning="Median latency of a whole answer."),
    Column(heading="speedup", is_number=True,
           cell=_number(lambda e: e.result.speedup, lambda v: f"{v:.2f}×",
                        note=lambda e: interval_text(e.result.speedup_ci95)),
           meaning="Over fp16, both measured in alternating blocks of the same run: the median of "
                   "paired latency ratios, offline of paired rounds. Below it the 95 % interval "
                   "within this run, which says nothing about another machine."),
    Column(heading="speedup low", is_number=True, is_shown=False,
           cell=_number(_bound(0), lambda v: f"{v:.2f}×"),
           meaning="Lower end of the speedup's 95 % interval."),
    Column(heading="speedup high", is_number=True, is_shown=False,
           cell=_number(_bound(1), lambda v: f"{v:.2f}×"),
           meaning="Upper end of the speedup's 95 % interval."),
    Column(heading="exact match %", is_number=True,
           cell=_number(lambda e: _scaled(e.result.accuracy, 100), _percent, note=_of_reference),
           meaning="Answers whose parsed JSON equals the right call, or, of images, the share of "
                   "right classes (top-1), of the outputs of the executed path; below it relative "
                   "to fp16."),
    Column(heading="of fp16 %", is_number=True, is_shown=False,
           cell=_number(lambda e: _scaled(e.result.accuracy_ratio, 100), _percent),
           meaning="Exact match relative to the fp16 reference of the same run; the closed track "
                   "asks 99 %."),
    Column(heading="call NLL", is_number=True,
           cell=_number(lambda e: e.result.call_nll, lambda v: f"{v:.4f}"),
           meaning="Nats per token of the right call, or, of images, of the right class; lower is "
                   "better. It sees what exact match cannot."),
)  # fmt: skip

TAIL: tuple[Column, ...] = (
    Column(heading="% of bandwidth", is_number=True,
           cell=_number(lambda e: e.result.roofline.percent_of_bandwidth, _percent),
           meaning="Of the read bandwidth measured on the device in the same run. A dash where the "
                   "weights fit in 4x the last-level cache: memory does not bound them."),
    Column(heading="% of compute", is_number=True,
           cell=_number(lambda e: e.result.roofline.percent_of_compute, _percent),
           meaning="Of the arithmetic peak, measured in the same run, of the arithmetic that "
                   "executed."),
    Column(heading="tokens/s", is_number=True, cell=_number(lambda e: e.result.tokens_per_s),
           meaning="Output tokens per second; tokens of the prompt are not counted."),
    Column(heading="TTFT ms", is_number=True, scenarios=SINGLE,
           cell=_number(lambda e: e.result.ttft_p90_ms),
           meaning="Time to the first token, 90th percentile."),
    Column(heading="TPOT ms", is_number=True, scenarios=SINGLE,
           cell=_number(lambda e: e.result.tpot_p90_ms),
           meaning="Time per output token after the first, 90th percentile: (latency - TTFT) / "
                   "(tokens - 1)."),
    Column(heading="samples/s", is_number=True, scenarios=SINGLE, is_shown=False,
           cell=_number(lambda e: e.result.samples_per_s),
           meaning="Commands answered per second. Ranks offline; higher is better."),
    Column(heading="weights MB", is_number=True, is_shown=False,
           cell=_number(lambda e: _scaled(e.result.weight_bytes, 1 / BYTES_PER_MB)),
           meaning="Bytes of weights that one decode step reads, in 10^6 bytes."),
    Column(heading="peak MB", is_number=True, is_shown=False,
           cell=_number(lambda e: _scaled(e.result.peak_memory_bytes, 1 / BYTES_PER_MB)),
           meaning="Peak resident memory while this kernel ran, in 10^6 bytes."),
    Column(heading="batch", is_number=True, is_shown=False,
           cell=_number(lambda e: e.result.batch_size, str),
           meaning="Sequences decoded together; offline the system chooses it."),
    Column(heading="samples", is_number=True, is_shown=False,
           cell=_number(lambda e: e.result.samples, str),
           meaning="How many samples the speed was measured on."),
    Column(heading="profile", has_choices=True, cell=_word(lambda e: e.record.profile),
           meaning="How long was measured. A profile is ranked against itself only."),
    Column(heading="power mode", has_choices=True, is_shown=False,
           cell=_word(lambda e: power_mode(e.submission.system) or None),
           meaning="How much the machine might draw, from its system file: nvpmodel's mode, the "
                   "governor, the GPU's limit. Different modes share no ranking."),
    Column(heading="verdict", has_choices=True,
           cell=_word(verdict, tone=lambda e: TONES.get(verdict(e), "")),
           meaning="valid entries are ranked. reference: fp16. INVALID: a rule of measuring is "
                   "broken, the reasons stand with the run. accuracy missed: under the closed "
                   "track's gate."),
    Column(heading="run",
           cell=_word(lambda e: e.record.run_id, link=lambda e: f"#{e.submission.anchor}"),
           meaning="The run's id: its command, system, ceilings and warnings are described below."),
)  # fmt: skip

MeterDomain = tuple[str, str]


def _domain(entry: Entry) -> MeterDomain | None:
    energy = entry.result.energy
    if energy.joules is None or not entry.result.samples:
        return None
    return energy.meter or "?", energy.domain or "?"


def _energy_column(meter: str, domain: str) -> Column:
    def joules(entry: Entry) -> float | None:
        energy, samples = entry.result.energy, entry.result.samples
        if energy.joules is None or _domain(entry) != (meter, domain):
            return None
        return energy.joules / samples

    shown = domain if len(domain) <= HEADING_CHARACTERS else domain[:HEADING_CHARACTERS] + "…"
    return Column(
        heading=f"J/sample {shown} ({meter})",
        meaning=f"Energy of the kernel's own blocks per sample, in the domain {shown} of the meter "
        f"{meter}. Domains cover different parts of a machine, so each has its own column.",
        cell=_number(joules),
        is_number=True,
    )


def energy_columns(entries: Sequence[Entry]) -> tuple[Column, ...]:
    """Return one column per meter domain, so that no sorting compares two domains."""
    domains = sorted({pair for entry in entries if (pair := _domain(entry))})
    if domains:
        return tuple(_energy_column(meter, domain) for meter, domain in domains)
    return (
        Column(
            heading="J/sample",
            meaning="Energy per sample. No entry here was measured with a power meter; the reasons "
            "stand with each run. Nothing is estimated.",
            cell=_number(lambda entry: None),
            is_number=True,
        ),
    )


def _chosen(column: Column, cells: Sequence[Cell]) -> Column:
    """Hide at first what says the same in every row; the columns menu brings it back."""
    is_dull = column.has_choices and len({cell.value for cell in cells}) == 1
    if is_dull and column.heading not in ALWAYS_SHOWN:
        return replace(column, is_shown=False)
    return column


def linked_to(table: Table, page: Callable[[Submission], str]) -> Table:
    """Return a table whose cells that point to a run point to its own page."""
    rows = [
        [replace(cell, link=page(entry.submission)) if cell.link else cell for cell in row]
        for row, entry in zip(table.rows, table.entries, strict=True)
    ]
    return replace(table, rows=rows)


def make_table(entries: Sequence[Entry], scenario: str) -> Table:
    """Return the table of one scenario."""
    own = [entry for entry in entries if entry.record.scenario == scenario]
    columns = (*HEAD, *energy_columns(own), *learning_columns(own), *TAIL)
    columns = tuple(column for column in columns if scenario in column.scenarios)
    rows = [[column.cell(entry) for column in columns] for entry in own]
    shown = [
        _chosen(column, [row[number] for row in rows]) for number, column in enumerate(columns)
    ]
    return Table(scenario=scenario, columns=tuple(shown), rows=rows, entries=own)
