"""The words of `bench run`: from options to a spec, from a campaign to text and an exit code."""

from __future__ import annotations

from dataclasses import dataclass

from edgebench.draft import repeat_command
from edgebench.errors import EXIT_OK, WriteFailed, unknown_name
from edgebench.progress import Progress, choose_progress
from edgebench.record import rows
from edgebench.rows import FORMATS
from edgebench.run import Campaign, exit_code, run
from edgebench.spec import ModelRequest, RunOptions, RunSpec, parse_run


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the command line prints on stdout, and its exit code."""

    text: str
    exit_code: int


def run_command(options: RunOptions, *, form: str, quiet: bool) -> Outcome:
    """Run, and word the outcome: rows on stdout, everything else where progress goes."""
    if options.dry_run:
        return _dry_run(options, form=form, quiet=quiet)
    if form not in FORMATS:
        raise unknown_name("run", "format", form, FORMATS)
    progress = choose_progress(quiet)
    spec = parse_run(options)
    if spec.own_model is not None:
        return _own_model(spec, spec.own_model, form, progress)
    try:
        campaign = run(spec, progress)
    except BaseException as error:
        progress.note(f"to go on: {repeat_command(spec)} --out {spec.out} --resume")
        if isinstance(error, WriteFailed):
            raise WriteFailed(f"{error}; --resume goes on with what was measured") from error
        raise
    _close(campaign, progress)
    flat = [row for record in campaign.records for row in rows(record)]
    return Outcome(text=FORMATS[form](flat), exit_code=exit_code(campaign))


def _dry_run(options: RunOptions, *, form: str, quiet: bool) -> Outcome:
    from edgebench import dry_run_text
    from edgebench.dry_run import plan_run

    if form not in dry_run_text.FORMATS:
        raise unknown_name("run", "format of a plan", form, dry_run_text.FORMATS)
    plan = plan_run(parse_run(options), choose_progress(quiet))
    return Outcome(text=dry_run_text.FORMATS[form](plan), exit_code=plan.exit_code)


def _own_model(spec: RunSpec, request: ModelRequest, form: str, progress: Progress) -> Outcome:
    from edgebench import perplexity_rows
    from edgebench.own_model import measure_own_model

    record, path = measure_own_model(spec, request, progress)
    progress.note(f"executed on: {record.executed_on}")
    progress.note(f"record: {path}")
    return Outcome(text=perplexity_rows.FORMATS[form](record), exit_code=EXIT_OK)


def _close(campaign: Campaign, progress: Progress) -> None:
    progress.note(f"executed on: {campaign.device.executed_on}")
    for path in campaign.bundles:
        progress.note(f"bundle: {path}")
    for item in campaign.skipped:
        progress.note(f"not measured: {item.workload} {item.scenario}: {item.reason}")
    progress.note(f"to repeat: {repeat_command(campaign.spec)}")
