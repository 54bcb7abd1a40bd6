"""The commands that watch for regressions: they parse, call one function, echo."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("suite", type=click.Path(path_type=Path))
@click.option("--baseline", required=True, help="git:REV, version:X, an environment, or self.")
@click.option("--head", default="self", show_default=True, help="As --baseline.")
@click.option(
    "--history",
    default="nightly/history.jsonl",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Appended to.",
)
@click.option(
    "--out",
    default="nightly",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of report.html, report.md and junit.xml.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Of the kernels; default: all cores.")
@click.option("--strict", is_flag=True, help="Exit 7 where a cell is left open.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def nightly(out: Path, strict: bool, quiet: bool, **request: object) -> None:
    """Run a SUITE of head against a pinned baseline in pairs; exit 6 on a regression."""
    from edgebench.nightly.history import read_history
    from edgebench.nightly.run import NightOptions, run_night
    from edgebench.progress import choose_progress
    from edgebench_reports.nightly_report import night_markdown, write_night

    options = NightOptions(**request)  # type: ignore[arg-type]  # click made each value's type
    night = run_night(options, choose_progress(quiet))
    write_night(night, read_history(options.history)[0], out)
    click.echo(night_markdown(night))
    sys.exit(night.exit_code(strict=strict))


@click.command()
@click.option(
    "--out",
    default="selftest",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Finished rounds are kept there, and not run again.",
)
@click.option(
    "--aa",
    default=48,
    show_default=True,
    type=click.IntRange(min=0),
    help="Rounds of ten A/A comparisons.",
)
@click.option(
    "--planted",
    default=40,
    show_default=True,
    type=click.IntRange(min=0),
    help="Rounds of planted changes.",
)
@click.option(
    "--bad-nights",
    default=2,
    show_default=True,
    type=click.IntRange(min=0),
    help="Rounds with disturbed processes.",
)
@click.option(
    "--creeps",
    default=1,
    show_default=True,
    type=click.IntRange(min=0),
    help="Rounds of ten nights that creep.",
)
@click.option("--seed", default=0, show_default=True, type=int, help="Of what is planted where.")
@click.option(
    "--limit",
    default=5.0,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Smallest change that counts, in percent.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Of the kernels; default: all cores.")
@click.option(
    "--history", type=click.Path(path_type=Path), help="Add the A/A rounds to a nightly history."
)
@click.option("--format", "form", default="md", show_default=True, help="md or json.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def selftest(form: str, quiet: bool, **request: object) -> None:
    """Plant known slow-downs on this machine and count how many the detector calls."""
    from edgebench.nightly.selftest_run import SelftestOptions, selftest_command
    from edgebench.progress import choose_progress

    options = SelftestOptions(**request)  # type: ignore[arg-type]  # click made each value's type
    click.echo(selftest_command(options, form=form, progress=choose_progress(quiet)))
