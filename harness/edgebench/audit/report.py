"""What `bench audit` prints and files: a verdict, a row for every measure, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgebench.audit.judgement import SEVERITY, Verdict
from edgebench.audit.record import AuditedTest, AuditMeasure, AuditRecord
from edgebench.codec import encode_model
from edgebench.errors import EXIT_OK, RuleViolation, RunFailed
from edgebench.findings import printable
from edgebench.markdown import header, row

MEANING: Mapping[Verdict, str] = {
    "passed": "nothing was caught",
    "caught": "at least one test was not passed",
    "unsure": "too noisy to tell: repeat it with nothing else running",
    "failed": "a test could not run to its end",
    "not applicable": "what the bundle claims could not be audited",
}


def overall(verdicts: list[Verdict], *, is_whole: bool = True) -> Verdict:
    """The verdict of all tests: the worst; 'not applicable' only where nothing else came.

    A bundle of which a kernel could not be audited at all (is_whole=False) has not passed.
    """
    absent: Verdict = "not applicable"
    found = next((verdict for verdict in SEVERITY if verdict in verdicts), absent)
    return absent if found == "passed" and not is_whole else found


def exit_code(verdict: Verdict) -> int:
    """0 passed, 5 caught, 4 where something could not be decided or run."""
    if verdict == "caught":
        return RuleViolation.exit_code
    return EXIT_OK if verdict == "passed" else RunFailed.exit_code


def markdown(record: AuditRecord) -> str:
    """A table that can be pasted, below the verdict and what the reader has to know."""
    title = f"{record.workload} {record.scenario} {record.run_id}"
    lines = [f"{title}: {record.verdict.upper()}: {MEANING[record.verdict]}", ""]
    if record.disclosure:
        lines += [printable(record.disclosure), ""]
    if record.differences:
        told = "; ".join(printable(text) for text in record.differences)
        lines += [
            f"Another system than the bundle's ({told}): no time is compared with the bundle's.",
            "",
        ]
    if record.other_runs_seen:
        lines += ["Another EdgeBench run was on this machine.", ""]
    lines += header(("kernel", "test", "verdict", "measured", "limit", "runs"))
    for kernel in record.kernels:
        for test in kernel.tests:
            lines += [_row(kernel.kernel, test, measure) for measure in _rows_of(test)]
    return "\n".join([*lines, "", f"seed {record.seed}, {record.executed_on}"])


def _rows_of(test: AuditedTest) -> list[AuditMeasure]:
    """A test without measures still has a row: its reason."""
    if test.measures:
        return list(test.measures)
    return [AuditMeasure(what="", verdict=test.verdict, note=test.note)]


def _row(kernel: str, test: AuditedTest, measure: AuditMeasure) -> str:
    cells = (
        kernel,
        test.test,
        f"**{measure.verdict}**" if measure.verdict == "caught" else measure.verdict,
        _measured(measure),
        measure.limit or "-",
        str(test.runs),
    )
    return row(text.replace("<=", "≤").replace(">=", "≥") for text in cells)


def _measured(measure: AuditMeasure) -> str:
    text = measure.what
    if measure.value is not None:
        text += f": {measure.value:.4g}"
    if measure.interval is not None:
        text += f" [{measure.interval[0]:.4g}, {measure.interval[1]:.4g}]"
    if measure.note:
        text += f" ({measure.note})" if text else measure.note
    return text


def _json(record: AuditRecord) -> str:
    return encode_model(record).decode().rstrip("\n")


FORMATS: Mapping[str, Callable[[AuditRecord], str]] = {"md": markdown, "json": _json}
