"""The pages beside the leaderboard: one per submission, per device and per workload."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgebench.codec import make_folder, write_quickly
from edgebench.progress import Progress
from edgebench_reports.details import describe_run
from edgebench_reports.entries import Entry, Submission
from edgebench_reports.group_page import group_html
from edgebench_reports.run_page import FOLDER, page_name, run_html
from edgebench_reports.tables import make_table

DEVICE, WORKLOAD = "device", "workload"
OURS = re.compile(r"[A-Za-z0-9@._-]{1,120}\.html")


def write_pages(entries: Sequence[Entry], out: Path, progress: Progress) -> int:
    """Write every page below a site and remove those of bundles that are gone; return the count.

    StorageError where one cannot be written.
    """
    for folder in (FOLDER, DEVICE, WORKLOAD):
        make_folder(out / folder)
    written: set[Path] = set()
    runs: dict[str, list[Entry]] = {}
    for entry in entries:
        runs.setdefault(entry.submission.anchor, []).append(entry)
    with progress.stage("writing pages") as update:
        for number, own in enumerate(runs.values()):
            update(number, len(runs))
            submission = own[0].submission
            written.add(_write(out / page_name(submission), _run(submission, own)))
        for name, text in _groups(entries):
            written.add(_write(out / name, text))
    _remove_others(out, written)
    return len(written)


def _run(submission: Submission, own: list[Entry]) -> str:
    own = sorted(own, key=lambda entry: entry.result.kernel != "fp16")
    table = make_table(own, submission.record.scenario)
    return run_html(submission, describe_run(submission), table)


def _write(path: Path, text: str) -> Path:
    write_quickly(path, text.encode())
    return path


def _groups(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    groups: Mapping[str, dict[str, list[Entry]]] = {DEVICE: {}, WORKLOAD: {}}
    for entry in entries:
        groups[DEVICE].setdefault(entry.record.host.device, []).append(entry)
        groups[WORKLOAD].setdefault(entry.record.workload.name, []).append(entry)
    for name, own in groups[DEVICE].items():
        yield f"{DEVICE}/{name}.html", group_html(f"Device {name}", WORKLOAD, own)
    for name, own in groups[WORKLOAD].items():
        yield f"{WORKLOAD}/{name}.html", group_html(f"Workload {name}", "system", own)


def _remove_others(out: Path, written: set[Path]) -> None:
    for folder in (FOLDER, DEVICE, WORKLOAD):
        for path in (out / folder).iterdir():
            if path not in written and OURS.fullmatch(path.name) and path.is_file():
                path.unlink()
