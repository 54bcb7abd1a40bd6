"""Writing the tree: made whole under another name beside it, then renamed; never over another."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from edgebench.bundle import read_bundle
from edgebench.checker import check_or_raise
from edgebench.checker.known import Lookup, known_workload
from edgebench.codec import make_folder, storage_error
from edgebench.errors import SpecError
from edgebench.mlperf import accuracy_files, detail_log, documents, summary
from edgebench.mlperf.kernel_run import KernelRun
from edgebench.mlperf.system_fields import measurement_fields, system_fields

Files = dict[PurePosixPath, bytes]


def export_mlperf(
    bundle: Path, out: Path, *, tensors: Path | None = None, lookup: Lookup = known_workload
) -> list[Path]:
    """Check a bundle and write it to the new folder `out`; return the runs' folders there.

    Raises BundleRefused (exit 5) for a bundle that breaks a rule, SpecError where `out` exists or
    an external engine was measured, StorageError where it cannot be written.
    """
    _check_new(out)
    check_or_raise(bundle, tensors=tensors, lookup=lookup)
    content = read_bundle(bundle)
    if content.record.external is not None:
        raise SpecError(
            "[mlperf] expected a bundle of our own kernels, got an external engine's: the layout "
            "asks what was done to its weights, and nobody here knows"
        )
    workload = lookup(content.record.workload.name)
    runs = [
        KernelRun(bundle=content, workload=workload, result=result)
        for result in content.record.results
    ]
    files: Files = {}
    rows: list[Mapping[str, object]] = []
    for run in runs:
        files |= dict(_run_files(run))
        rows += summary.result_rows(run, str(run_folder(run)))
    files |= dict(_shared_files(runs[0]))
    files[PurePosixPath("summary.csv")] = summary.as_csv(rows).encode()
    files[PurePosixPath("summary.json")] = summary.as_json(rows).encode()
    _write(files, out)
    return [out / run_folder(run) for run in runs]


def run_folder(run: KernelRun) -> PurePosixPath:
    """Return where a kernel's run lies under the root of the tree."""
    names = ("results", run.system_id, run.workload.name, run.scenario)
    return _submitter(run).joinpath(*names)


def _submitter(run: KernelRun) -> PurePosixPath:
    return PurePosixPath(run.record.track) / run.record.organisation


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _run_files(run: KernelRun) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield everything that belongs to one kernel."""
    folder = run_folder(run)
    yield _submitter(run) / "systems" / f"{run.system_id}.json", _json(system_fields(run))
    yield folder / "measurements.json", _json(measurement_fields(run))
    yield folder / "user.conf", documents.user_conf(run).encode()
    yield folder / "README.md", documents.run_readme(run).encode()
    measured = detail_log.performance_entries(run)
    yield from _logs(run, folder / "performance" / "run_1", measured)
    yield from _logs(run, folder / "accuracy", detail_log.accuracy_entries(run))
    log = accuracy_files.accuracy_log(run)
    text = accuracy_files.accuracy_text(run, log)
    yield folder / "accuracy" / "mlperf_log_accuracy.json", accuracy_files.truncated(log)
    yield folder / "accuracy" / "accuracy.txt", text.encode()
    if run.result.energy.status == "measured" and run.bundle.power_csv is not None:
        power = folder / "performance" / "power"
        yield power / "power.csv", run.bundle.power_csv.read_bytes()
        yield power / "README.md", documents.power_readme(run).encode()


def _logs(
    run: KernelRun, folder: PurePosixPath, entries: Mapping[str, object]
) -> Iterator[tuple[PurePosixPath, bytes]]:
    yield folder / "mlperf_log_detail.txt", detail_log.detail_text(entries).encode()
    yield folder / "mlperf_log_summary.txt", summary.summary_text(run, entries).encode()


def _shared_files(run: KernelRun) -> Iterator[tuple[PurePosixPath, bytes]]:
    root = _submitter(run)
    yield PurePosixPath("README.md"), documents.tree_readme(run).encode()
    yield root / "src" / "README.md", documents.source_readme(run).encode()
    yield root / "documentation" / "README.md", documents.tree_readme(run).encode()
    yield root / "documentation" / "calibration.md", documents.calibration(run).encode()


def _check_new(out: Path) -> None:
    if os.path.lexists(out):
        raise SpecError(f"[export] expected a folder that does not exist, got {out}; name another")


def _write(files: Files, out: Path) -> None:
    """Write all files under a temporary name, then rename: the folder is there whole or not."""
    make_folder(out.absolute().parent)
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
    except OSError as error:
        raise storage_error(out, error) from error
    try:
        for name, data in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        partial.chmod(0o755)  # mkdtemp keeps others out
        _check_new(out)  # an empty folder would silently be replaced
        partial.rename(out)
    except OSError as error:
        raise storage_error(out, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
