"""summary.json, summary.md and bundles.tar: the whole of what a check leaves, at any time."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgebench_kernels.cuda.check import bars
from edgebench_kernels.cuda.check.events import PASSED, plain
from edgebench_kernels.cuda.check.supervisor import Outcome
from edgebench_kernels.cuda.check.tables import markdown, shown, table

FORMAT = 1
JSON, MARKDOWN, TAR = "summary.json", "summary.md", "bundles.tar"
TAR_LIMIT_BYTES = 16 << 20
ITEM_TEXT = 300
"""Characters of an item's text in the Markdown; the JSON has more."""


class Folder:
    """The folder that a check writes to: these three files, and no others."""

    def __init__(self, out: Path, facts: dict[str, Any]) -> None:
        self._out, self._facts = out, facts
        out.mkdir(parents=True, exist_ok=True)
        self.bundles_left_out: list[str] = []
        self._replace(TAR, _tar([]))

    def publish(self, outcomes: Sequence[Outcome]) -> None:
        """Write both summaries anew."""
        one = document(outcomes, self._facts, self.bundles_left_out)
        self._replace(JSON, (json.dumps(one, indent=1) + "\n").encode())
        self._replace(MARKDOWN, text(one).encode())

    def keep_bundles(self, root: Path) -> None:
        """Put the bundles below a submission tree into the archive, small ones first."""
        folders = sorted({path.parent for path in root.rglob("record.json")}, key=_size_bytes)
        kept: list[Path] = []
        for folder in folders:
            data = _tar([(one, one.relative_to(root)) for one in (*kept, folder)])
            if len(data) <= TAR_LIMIT_BYTES:
                kept.append(folder)
                self._replace(TAR, data)
            else:
                self.bundles_left_out.append(f"{folder.relative_to(root)}: no room in {TAR}")

    def _replace(self, name: str, data: bytes) -> None:
        partial = self._out / f".{name}"
        partial.write_bytes(data)
        partial.replace(self._out / name)


def document(
    outcomes: Sequence[Outcome], facts: dict[str, Any], left_out: Sequence[str] = ()
) -> dict[str, Any]:
    """summary.json."""
    found: dict[str, float | None] = {}
    for outcome in outcomes:
        for item in outcome.items:
            found |= item.data.get("quantities", {})
    gpu = gpu_name(outcomes)
    verdicts = [
        {**asdict(one.bar), "value": one.value, "verdict": one.verdict} for one in bars.judge(found)
    ]
    stages = [
        {
            "name": outcome.stage.name,
            "title": outcome.stage.title,
            "status": outcome.status,
            "text": outcome.text,
            "took_s": round(outcome.took_s, 1),
            "limit_s": round(outcome.limit_s, 1),
            "items": [asdict(item) for item in outcome.items],
        }
        for outcome in outcomes
    ]
    return plain(
        {
            "format": FORMAT,
            "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "gpu": gpu,
            "bars_stated_for": bars.STATED_FOR,
            **facts,
            "bars": verdicts,
            "stages": stages,
            "bundles_left_out": list(left_out),
        }
    )


def gpu_name(outcomes: Sequence[Outcome]) -> str | None:
    """What the environment stage found; None where it found none."""
    for outcome in outcomes:
        for item in outcome.items:
            if name := item.data.get("gpu_name"):
                return str(name)
    return None


def text(one: dict[str, Any]) -> str:
    """summary.md of a document."""
    facts = {key: value for key, value in one.items() if isinstance(value, str | int | float)}
    lines = ["# GPU check", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    if one["gpu"] and one["gpu"] != one["bars_stated_for"]:
        lines += ["", f"The bars are stated for {one['bars_stated_for']}; this is {one['gpu']}."]
    lines += ["", *_bars(one["bars"]), *_stages(one["stages"])]
    for stage in one["stages"]:
        lines += _stage(stage)
    lines += [f"- left out of {TAR}: {name}" for name in one["bundles_left_out"]]
    return "\n".join(lines).rstrip() + "\n"


def head(one: dict[str, Any]) -> str:
    """The bars and the stages alone, for a terminal."""
    return "\n".join([*_bars(one["bars"]), *_stages(one["stages"])])


def _bars(verdicts: list[dict[str, Any]]) -> list[str]:
    rows = [[v["text"], v["least"], v["value"], v["unit"], v["verdict"]] for v in verdicts]
    return markdown(table(("bar", "at least", "measured", "unit", "verdict"), rows))


def _stages(stages: list[dict[str, Any]]) -> list[str]:
    rows = []
    for stage in stages:
        passed = sum(item["status"] == PASSED for item in stage["items"])
        what = f"{passed} of {len(stage['items'])} passed"
        rows.append([stage["name"], stage["status"], what, stage["took_s"]])
    return markdown(table(("stage", "status", "items", "s"), rows))


def _stage(stage: dict[str, Any]) -> list[str]:
    lines = [f"## {stage['title']}", "", f"{stage['status']}, {stage['took_s']} s", ""]
    if stage["text"]:
        lines += ["```", stage["text"], "```", ""]
    for item in stage["items"]:
        if item["status"] != PASSED or not item["data"]:
            said = f": {item['text'][-ITEM_TEXT:]}" if item["text"] else ""
            lines += [f"- {item['name']}: {item['status']}{' '.join(said.splitlines())}"]
        lines += _data(item)
    return [*lines, ""]


def _data(item: dict[str, Any]) -> list[str]:
    """An item's tables, then what else it says in one line."""
    lines: list[str] = []
    data = item["data"]
    facts = [
        f"{key} {shown(value)}"
        for key, value in data.items()
        if isinstance(value, str | int | float) or value is None
    ]
    if facts:
        lines.append(f"- {item['name']}: {', '.join(facts)}")
    for one in data.get("tables", []):
        lines += ["", *markdown(one)]
    return lines


def _tar(folders: Sequence[tuple[Path, Path]]) -> bytes:
    """An archive of folders under the names given, without times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder, name in folders:
            for path in sorted(one for one in folder.rglob("*") if one.is_file()):
                data = path.read_bytes()
                entry = tarfile.TarInfo(str(name / path.relative_to(folder)))
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
