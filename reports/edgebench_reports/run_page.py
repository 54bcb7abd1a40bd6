"""The permanent page of a submission: everything that is known of one bundle, without a script."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from edgebench import __version__
from edgebench.record import Record, kernel_title
from edgebench.units import format_bytes, format_number
from edgebench_reports.condition_plot import condition_plot
from edgebench_reports.details import RunDetails
from edgebench_reports.entries import Entry, Submission
from edgebench_reports.evidence import Evidence
from edgebench_reports.render import render_still
from edgebench_reports.roofline_chart import Mark, place
from edgebench_reports.tables import Table
from edgebench_reports.vectors import Line, lines

FOLDER = "run"
POWER_TONES = 4
SKIPPED_HEADINGS = ("workload", "system", "device", "track", "organisation", "profile", "run")


def page_name(submission: Submission) -> str:
    """Return where a submission's page lies below the site: the same for the same bundle."""
    return f"{FOLDER}/{submission.anchor}.html"


def run_html(submission: Submission, details: RunDetails, own: Table) -> str:
    """Return the page; `own` is its rows of its scenario's table."""
    evidence = submission.evidence
    kept = [n for n, c in enumerate(own.columns) if c.heading not in SKIPPED_HEADINGS]
    rows = [
        (own.columns[n], [row[n] for row in own.rows])
        for n in kept
        if any(row[n].value is not None for row in own.rows)
    ]
    values: dict[str, Any] = {
        "title": f"{submission.record.workload.name} {submission.record.scenario}: "
        f"{submission.record.system}",
        "run": details,
        "record": submission.record,
        "kernels": [(kernel_title(e.result.kernel), e.result.kernel) for e in own.entries],
        "rows": rows,
        "distribution": distribution(evidence),
        "power": power(evidence),
        "domains": [
            (f"{own.domain} ({own.meter})", f"power{number % POWER_TONES}")
            for number, own in enumerate(evidence.power)
        ],
        "conditions": condition_plot(submission.record.conditions),
        "roofline": roofline(submission.record, own.entries),
        "steps": evidence.steps,
        "files": [
            (file.name, format_bytes(file.size_bytes), file.sha256) for file in evidence.files
        ],
        "reproduce": f"bench reproduce {submission.anchor} --submissions SUBMISSIONS",
        "version": __version__,
    }
    return render_still("run", values)


def distribution(evidence: Evidence) -> Markup:
    """Draw the share of answers (offline: rounds) that took at most so long."""
    series = [
        Line(
            name=kernel_title(own.kernel),
            tone=own.kernel,
            points=[(ms, float(step)) for step, ms in enumerate(own.quantiles_ms)],
        )
        for own in evidence.latencies
    ]
    return lines(series, "ms", "% took at most this")


def power(evidence: Evidence) -> Markup:
    """Draw the power of every domain over the run."""
    series = [
        Line(
            name=f"{own.domain} ({own.meter})",
            tone=f"power{number % POWER_TONES}",
            points=list(zip(own.t_s, own.power_W, strict=True)),
        )
        for number, own in enumerate(evidence.power)
    ]
    return lines(series, "s", "W")


def roofline(record: Record, entries: list[Entry]) -> Markup:
    """Draw the measured roofs and the kernels' places, both axes as powers of ten.

    Empty where no bandwidth was measured or no kernel has a place.
    """
    bandwidth = next((c.median for c in record.ceilings if c.ceiling == "read_bandwidth"), None)
    peaks = [c for c in record.ceilings if c.ceiling != "read_bandwidth"]
    marks = [(e, mark) for e in entries if isinstance(mark := place(e), Mark)]
    if bandwidth is None or not peaks or not marks:
        return Markup("")
    low = min(mark.intensity for _, mark in marks) / 4
    high = max([mark.intensity for _, mark in marks] + [p.median / bandwidth for p in peaks]) * 4
    steps = [low * (high / low) ** (n / 40) for n in range(41)]
    roofs = [
        Line(
            name=f"{peak.ceiling}: {format_number(peak.median / 1e9)} Gop/s",
            tone="roof",
            points=[(math.log10(x), math.log10(min(peak.median, bandwidth * x))) for x in steps],
        )
        for peak in peaks
    ]
    dots = [
        Line(
            name=kernel_title(e.result.kernel),
            tone=e.result.kernel,
            points=[(math.log10(mark.intensity), math.log10(mark.rate))],
        )
        for e, mark in marks
    ]
    titles = ("log10 operations per byte", "log10 op/s")
    return lines([*roofs, *dots], *titles, from_zero=False)
