"""`bench reproduce`: a published run again on this machine, and whether it is the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgebench.checker import known_workload
from edgebench.errors import EXIT_OK, SpecError, unknown_name
from edgebench.paired import Effect, judge, log_ratio
from edgebench.progress import Progress
from edgebench.record import KernelResult, Record, kernel_title
from edgebench.repeat import run_again
from edgebench.units import format_fraction
from edgebench_reports.compare import FORMATS, case_text, effect_text
from edgebench_reports.comparison import (
    PRACTICAL_PERCENT,
    Cell,
    Comparison,
    compare_sides,
)
from edgebench_reports.judged import Lookup
from edgebench_reports.sides import Side, find_side

EXIT_DIFFERENT, EXIT_UNSURE = 6, 7
WORDS = {"SAME": "SAME", "FASTER": "DIFFERENT (faster)", "SLOWER": "DIFFERENT (slower)"}

Again = Callable[[Record, Path, Progress], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReproduceOptions:
    """What was typed."""

    run: str
    submissions: tuple[Path, ...] = ()
    out: Path
    strict: bool = False


def reproduce_command(
    options: ReproduceOptions,
    *,
    form: str,
    progress: Progress,
    again: Again = run_again,
    lookup: Lookup = known_workload,
) -> tuple[str, int]:
    """Run a bundle's or a row's request again and judge it; return the text and an exit code.

    6 where a kernel is different, 7 with strict where one is left open.
    """
    if form not in FORMATS:
        raise unknown_name("reproduce", "format", form, FORMATS)
    original = find_side(options.run, options.submissions, lookup=lookup, progress=progress)
    if len(original.runs) != 1:
        cases = ", ".join(" ".join(case) for case in sorted(original.runs))
        raise SpecError(
            f"[reproduce] expected one bundle, got {len(original.runs)} cases ({cases}); name one "
            "bundle's folder, or its row's id on the leaderboard"
        )
    (case,) = original.runs
    tree = again(original.runs[case].record, options.out, progress)
    ours = find_side(str(tree), (), lookup=lookup, progress=progress)
    (compared,) = compare_sides([original, _only(ours, original)])
    text = FORMATS[form]([compared])
    if form == "md":
        text += "\n\n" + "\n".join(_verdicts(compared, original, ours))
    return text, _exit_code(compared, strict=options.strict)


def _only(ours: Side, original: Side) -> Side:
    """Keep this run's newest bundle of the case alone: older reproductions are not this one."""
    runs = {case: run for case, run in ours.runs.items() if case in original.runs}
    return replace(ours, runs=runs)


def word(cell: Cell) -> str:
    """Say whether a cell was reproduced."""
    if cell.verdict is None:
        return f"NOT COMPARABLE: {'; '.join(cell.refusals)}"
    return WORDS.get(cell.verdict, "UNSURE")


def _verdicts(compared: Comparison, original: Side, ours: Side) -> list[str]:
    lines = []
    for cell in compared.cells:
        effect = effect_text(cell.effect)
        lines.append(f"- {case_text(cell)} {kernel_title(cell.kernel)}: {word(cell)}, {effect}")
        there = original.runs[cell.case].result(cell.kernel)
        here = ours.runs[cell.case].result(cell.kernel)
        if there is not None and here is not None:
            lines.append(
                f"  accuracy {format_fraction(there.accuracy)} published, "
                f"{format_fraction(here.accuracy)} here"
            )
            if told := speedup_text(there, here):
                lines.append(f"  {told}")
    return lines


def speedup_text(there: KernelResult, here: KernelResult) -> str | None:
    """Say whether the speedup over the fp16 of the same run came again; None without one.

    What a machine does to both kernels of a run cancels in it, and not in a time.
    """
    if there.speedup is None or here.speedup is None:
        return None
    effect = _speedup_effect(there, here)
    is_seen = judge(effect, log_ratio(PRACTICAL_PERCENT)) in ("FASTER", "SLOWER")
    said = f"{'different' if is_seen else 'no difference seen'}, {effect_text(effect)}"
    if effect.interval is None:
        said = "one of the two has no interval"
    return f"speedup {there.speedup:.2f}x published, {here.speedup:.2f}x here: {said}"


def _speedup_effect(there: KernelResult, here: KernelResult) -> Effect:
    """Here over published: two independent estimates, so that their distances add in squares."""
    one, other = there.speedup, here.speedup
    assert one is not None
    assert other is not None
    estimate, interval = math.log(other / one), None
    if there.speedup_ci95 is not None and here.speedup_ci95 is not None:
        (one_low, one_high), (low, high) = there.speedup_ci95, here.speedup_ci95
        interval = (
            estimate - math.hypot(math.log(other / low), math.log(one_high / one)),
            estimate + math.hypot(math.log(high / other), math.log(one / one_low)),
        )
    return Effect(estimate=estimate, interval=interval, t_interval=None, pairs=1, confidence=0.95)


def _exit_code(compared: Comparison, *, strict: bool) -> int:
    words = [word(cell) for cell in compared.cells]
    if any(text.startswith("DIFFERENT") for text in words):
        return EXIT_DIFFERENT
    is_open = not words or any(text != "SAME" for text in words)
    return EXIT_UNSURE if strict and is_open else EXIT_OK
