"""The `bench` command: parses, calls one function, echoes; heavy imports stay inside commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from edgebench import __version__
from edgebench.cli.regressions import nightly, selftest
from edgebench.errors import EXIT_INTERRUPTED, BenchError

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class BenchGroup(click.Group):
    """Maps EdgeBench's errors to one line on stderr and their exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run the command line; never returns."""
        try:
            super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except BenchError as error:
            click.echo(f"bench: {error}", err=True)
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("bench: interrupted; what was measured is kept", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:  # `bench list rules | head`
            sys.stderr.close()
        sys.exit(0)


@click.group(cls=BenchGroup, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="bench")
def main() -> None:
    """Measure what a compressed model gains and loses on this machine.

    Exit codes: 0 ok, 1 our bug, 2 usage, 3 device not ready, 4 run failed or incomplete,
    5 rules or accuracy not met, 6 significant regression, 7 unsure (with --strict),
    130 interrupted.
    """


@main.command()
@click.option("--track", default="closed", show_default=True, help="closed or open.")
@click.option("--model", metavar="PATH|ID", help="With --workload llm: a directory or a hub id.")
@click.option(
    "--text", type=click.Path(path_type=Path), help="With --workload llm: a text to predict."
)
@click.option("--context", type=int, metavar="TOKENS", help="With llm: of a window; default: 2048.")
@click.option("--stride", type=int, metavar="TOKENS", help="With llm: default: the context.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="With llm: a text for awq, gptq and smoothquant to learn from.",
)
@click.option("--device", default="auto", show_default=True, help="See `bench list devices`.")
@click.option(
    "--workload", default="assistant,assistant@300m", show_default=True, help="Names with commas."
)
@click.option(
    "--scenario", default="single-stream,offline", show_default=True, help="Names with commas."
)
@click.option("--kernel", default="fp16,int4", show_default=True, help="Names with commas.")
@click.option(
    "--transform", "--quantizer", default="rtn", show_default=True, help="How to quantize."
)
@click.option("--profile", default="quick", show_default=True, help="quick, standard or official.")
@click.option(
    "--out",
    default="submissions",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Root of the submission tree.",
)
@click.option("--organisation", default="unaffiliated", show_default=True, help="Who submits.")
@click.option("--format", "form", default="md", show_default=True, help="md, json or csv.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Default: the cores this process may use."
)
@click.option("--affinity", metavar="CPUS", help="CPUs to run on, e.g. 0,2-3; default: any.")
@click.option(
    "--budget", metavar="TIME", help="Minutes, or 20m, 1h30m, 90s; default: 6 for quick, else none."
)
@click.option("--dry-run", is_flag=True, help="Plan, estimate and write nothing.")
@click.option("--sut", default="own", show_default=True, help="own, or openai: any engine.")
@click.option("--url", metavar="URL", help="With --sut openai: http://127.0.0.1:PORT.")
@click.option("--served-model", metavar="NAME", help="With openai: default: the only one served.")
@click.option("--concurrency", type=int, help="With openai: requests in flight; default: 8.")
@click.option("--allow-remote", is_flag=True, help="With openai: take a server elsewhere.")
@click.option("--meter", default="auto", show_default=True, help="auto, none, names or csv:FILE.")
@click.option("--require-power", is_flag=True, help="Exit 3 where no meter covers the kernels.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run of the same request.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def run(form: str, quiet: bool, **request: object) -> None:
    """Measure workloads through the fp16 reference and our INT4 kernels, side by side."""
    from edgebench.command_run import run_command
    from edgebench.spec import RunOptions

    options = RunOptions(**request)  # type: ignore[arg-type]  # click made each value's type
    outcome = run_command(options, form=form, quiet=quiet)
    click.echo(outcome.text)
    sys.exit(outcome.exit_code)


@main.command(name="list")
@click.argument("what")
@click.option("--format", "form", default="md", show_default=True, help="md or json.")
def list_(what: str, form: str) -> None:
    """List WHAT there is: workloads, devices, transforms or rules."""
    from edgebench.listing import list_text

    click.echo(list_text(what, form))


@main.command()
@click.option("--device", default="auto", show_default=True, help="See `bench list devices`.")
@click.option("--format", "form", default="md", show_default=True, help="md or json.")
def doctor(device: str, form: str) -> None:
    """Look at this machine: device, kernels, meters, clocks; exit 3 if not ready for closed."""
    from edgebench.doctor import doctor_command

    text, exit_code = doctor_command(device, form)
    click.echo(text)
    sys.exit(exit_code)


@main.command()
@click.option("--device", required=True, help="Any device of `bench list devices`.")
@click.option("--workload", default="assistant@1b", show_default=True, help="One workload.")
@click.option("--kernel", default="fp16,int4", show_default=True, help="Names with commas.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(min=1), help="Tokens.")
@click.option("--super", "super_mode", is_flag=True, help="In the power mode MAXN_SUPER.")
@click.option("--clock", type=click.FloatRange(min=0.01), metavar="GHZ", help="Default: its own.")
@click.option("--format", "form", default="md", show_default=True, help="md or json.")
def estimate(form: str, **request: Any) -> None:
    """Bound a workload's tokens per second on paper, for a device that need not be here."""
    from edgebench.paper import EstimateOptions, estimate_command

    click.echo(estimate_command(EstimateOptions(**request), form))


@main.command()
@click.argument("rule")
def explain(rule: str) -> None:
    """Explain one RULE: what it asks, why, where it comes from, what to do."""
    from edgebench.listing import explain_text

    click.echo(explain_text(rule))


@main.command()
@click.argument("bundle", type=FOLDER)
@click.option("--tensors", type=FOLDER, help="Folder with quantized tensors.")
@click.option("--format", "form", default="md", show_default=True, help="md or json.")
def check(bundle: Path, tensors: Path | None, form: str) -> None:
    """Check a BUNDLE against the rules, deriving every published number again."""
    from edgebench.checker.report import check_command
    from edgebench.progress import choose_progress

    progress = choose_progress()
    text, exit_code = check_command(bundle, tensors=tensors, form=form, progress=progress)
    click.echo(text)
    sys.exit(exit_code)


@main.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--tensors", type=click.Path(path_type=Path), help="Folder with quantized tensors.")
@click.option("--student", type=click.Path(path_type=Path), help="Folder of a distilled student.")
@click.option(
    "--tests",
    default="caching,outputs,seeds,tokens,length,perturbed,unseen,claims",
    show_default=True,
    help="Names with commas.",
)
@click.option("--url", metavar="URL", help="Of the server, for an external engine's bundle.")
@click.option("--served-model", metavar="NAME", help="With --url; default: the only one served.")
@click.option("--allow-remote", is_flag=True, help="With --url: take a server elsewhere.")
@click.option("--out", type=click.Path(path_type=Path), help="Default: audits/RUN/...")
@click.option("--seed", type=click.IntRange(min=0), help="Of the audit's draws; default: random.")
@click.option("--format", "form", default="md", show_default=True, help="md or json.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def audit(form: str, quiet: bool, **request: object) -> None:
    """Run again what a BUNDLE claims, with intent to catch: exit code 5 where a test does."""
    from edgebench.command_audit import AuditOptions, audit_command

    options = AuditOptions(**request)  # type: ignore[arg-type]  # click made each value's type
    try:
        text, exit_code = audit_command(options, form=form, quiet=quiet)
    except KeyboardInterrupt:
        click.echo("bench: interrupted; an audit that did not end leaves nothing", err=True)
        sys.exit(EXIT_INTERRUPTED)
    click.echo(text)
    sys.exit(exit_code)


@main.command(name="import")
@click.argument("source")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def import_(source: str, out: Path, quiet: bool) -> None:
    """Read a 4-bit checkpoint (AWQ, GPTQ, compressed-tensors) into canonical tensors, or results.

    SOURCE may be the results of llama-bench or optimum-benchmark (.json) or of MLPerf's submission
    checker (.csv): with --out SUBMISSIONS/foreign the leaderboard shows them, marked unverified.
    """
    from edgebench.foreign import import_results, is_foreign

    if is_foreign(source):
        click.echo(import_results(Path(source), out))
        return
    from edgebench.command_checkpoint import import_command
    from edgebench.progress import choose_progress

    click.echo(import_command(source, out, choose_progress(quiet)))


@main.group()
def export() -> None:
    """Write a checkpoint or a bundle in another tool's format."""


@export.command()
@click.argument("source")
@click.option("--to", required=True, metavar="FORMAT", help="compressed-tensors, awq-gemm, ...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--transform", help="How to quantize a SOURCE that is not; default: symmetric.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="A text for a transform that learns from one.",
)
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def checkpoint(source: str, to: str, out: Path, quiet: bool, **how: Any) -> None:
    """Write a checkpoint, SOURCE, in a 4-bit format that other tools load."""
    from edgebench.command_checkpoint import Quantizing, convert
    from edgebench.progress import choose_progress

    click.echo(convert(source, to, out, progress=choose_progress(quiet), how=Quantizing(**how)))


@export.command()
@click.argument("bundle", type=FOLDER)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--tensors", type=FOLDER, help="Folder with quantized tensors.")
def mlperf(bundle: Path, directory: Path, tensors: Path | None) -> None:
    """Write a checked BUNDLE in MLPerf's layout to a new DIRECTORY; it is no MLPerf result."""
    from edgebench.command_mlperf import export_mlperf_command

    click.echo(export_mlperf_command(bundle, directory, tensors))


@main.command()
@click.argument("submissions", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the page.")
@click.option("--index", type=click.Path(path_type=Path), help="Default: in the user's cache.")
@click.option("--simulated", is_flag=True, help="Show bundles of simulated devices too.")
def leaderboard(
    submissions: tuple[Path, ...], out: Path, index: Path | None, simulated: bool
) -> None:
    """Write a self-contained leaderboard page from trees of SUBMISSIONS."""
    from edgebench.progress import choose_progress
    from edgebench_reports.leaderboard import write_leaderboard

    page = write_leaderboard(
        submissions,
        out,
        progress=choose_progress(),
        index=index,
        with_simulated=simulated,
    )
    click.echo(f"leaderboard: {page}")


@main.command()
@click.argument("submissions", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--index", type=click.Path(path_type=Path), help="Default: in the user's cache.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def index(submissions: tuple[Path, ...], index: Path | None, quiet: bool) -> None:
    """Bring the SQLite index of trees of SUBMISSIONS up to date; name the refused bundles."""
    from edgebench.checker import known_workload
    from edgebench.progress import choose_progress
    from edgebench_reports.index import index_command

    progress = choose_progress(quiet)
    text = index_command(submissions, index=index, lookup=known_workload, progress=progress)
    click.echo(text)


@main.command()
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--submissions",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Where ids are; repeat it.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of a page, compare.html.")
@click.option("--format", "form", default="md", show_default=True, help="md or json.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def compare(
    runs: tuple[str, ...], submissions: tuple[Path, ...], out: Path | None, form: str, quiet: bool
) -> None:
    """Compare RUNS (folders of bundles, or runs' ids) with the first: what differs, then ratios."""
    from edgebench.progress import choose_progress
    from edgebench_reports.compare import compare_command

    progress = choose_progress(quiet)
    text, code = compare_command(runs, trees=submissions, form=form, out=out, progress=progress)
    click.echo(text)
    sys.exit(code)


@main.command()
@click.argument("run")
@click.option(
    "--submissions",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Where ids are; repeat it.",
)
@click.option(
    "--out",
    default="reproduced",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Tree of the new bundle.",
)
@click.option("--format", "form", default="md", show_default=True, help="md or json.")
@click.option("--strict", is_flag=True, help="Exit 7 where it is left open.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def reproduce(form: str, quiet: bool, **request: object) -> None:
    """Run a bundle or a leaderboard's RUN again here: SAME, or exit 6 where it is DIFFERENT."""
    from edgebench.progress import choose_progress
    from edgebench_reports.reproduce import ReproduceOptions, reproduce_command

    options = ReproduceOptions(**request)  # type: ignore[arg-type]  # click made each value's type
    text, code = reproduce_command(options, form=form, progress=choose_progress(quiet))
    click.echo(text)
    sys.exit(code)


@main.command()
@click.option("--shapes", multiple=True, metavar="N,K", help="Repeat it; default: five of Llamas.")
@click.option("--batch", default="", metavar="M,M", help="Tokens; default: 1,4,16,64,256,512.")
@click.option("--op", default="w4a16,w4a8", show_default=True, help="Our paths, with commas.")
@click.option("--group", default=128, show_default=True, type=int, help="Inputs of a scale.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=1), help="Turns.")
@click.option("--peers", default="auto", show_default=True, help="auto, none or names with commas.")
@click.option("--threads", type=click.IntRange(min=1), help="Default: the cores of this process.")
@click.option("--isa", help="Force an instruction set, e.g. avx2.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of rows, table and picture.")
@click.option("--format", "form", default="table", show_default=True, help="table or json.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def kernels(form: str, quiet: bool, **request: object) -> None:
    """Race our INT4 linears against other libraries: checked first, then timed in turns."""
    from edgebench.command_kernels import KernelOptions, kernels_command
    from edgebench_reports.kernel_roofline import draw_kernel_roofline

    options = KernelOptions(**request)  # type: ignore[arg-type]  # click made each value's type
    click.echo(kernels_command(options, form=form, quiet=quiet, draw=draw_kernel_roofline))


main.add_command(nightly)
main.add_command(selftest)
