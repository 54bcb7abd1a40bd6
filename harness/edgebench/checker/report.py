"""What `bench check` prints: a verdict, then every finding with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from edgebench.checker import check
from edgebench.checker.known import Lookup, known_workload
from edgebench.errors import EXIT_OK, BundleError, unknown_name
from edgebench.findings import Finding, printable
from edgebench.markdown import header, row
from edgebench.progress import Progress
from edgebench.rules import RULES


def check_command(
    bundle: Path,
    *,
    tensors: Path | None = None,
    form: str = "md",
    lookup: Lookup = known_workload,
    progress: Progress | None = None,
) -> tuple[str, int]:
    """Check a bundle and return what to print with the exit code: 0, or 5 with an error."""
    if form not in FORMATS:
        raise unknown_name("check", "format", form, FORMATS)
    findings = check(bundle, tensors=tensors, lookup=lookup, progress=progress)
    failed = any(found.severity == "error" for found in findings)
    return FORMATS[form](bundle, findings), BundleError.exit_code if failed else EXIT_OK


def _markdown(bundle: Path, findings: Sequence[Finding]) -> str:
    errors = sum(found.severity == "error" for found in findings)
    counted = f"{errors} errors, {len(findings) - errors} warnings"
    verdict = f"FAILED: {counted}" if errors else f"passed {len(RULES)} rules, {counted}"
    lines = [f"{printable(bundle.name)}: {verdict}"]
    if findings:
        lines += ["", *header(("rule", "severity", "expected", "came", "what to do"))]
    for found in findings:
        cells = (found.rule_id, found.severity, found.expected, found.came, found.what_to_do)
        lines.append(row(cells))
    return "\n".join(lines)


def _json(bundle: Path, findings: Sequence[Finding]) -> str:
    passed = all(found.severity != "error" for found in findings)
    shown = [asdict(found) for found in findings]
    return json.dumps({"bundle": str(bundle), "passed": passed, "findings": shown}, indent=2)


FORMATS: Mapping[str, Callable[[Path, Sequence[Finding]], str]] = {
    "md": _markdown,
    "json": _json,
}
