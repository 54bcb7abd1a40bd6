"""Running the tool as a user does: a process of its own, in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 1500.0
MOVED = """
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from edgebench_workloads import catalog
root = Path(sys.argv.pop(1))
catalog.WORKLOADS.update({n: replace(w, root=root) for n, w in catalog.WORKLOADS.items()})
from edgebench.cli import main
main()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a finished process said."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON array on stdout."""
        rows: list[dict[str, Any]] = json.loads(self.out)
        return rows


def bench(*arguments: str | Path, cwd: Path, **environment: str) -> Said:
    """Run `bench` and wait for it."""
    return _run([sys.executable, "-m", "edgebench"], arguments, cwd, environment)


def bench_with_workloads(root: Path, *arguments: str | Path, cwd: Path) -> Said:
    """Run `bench` with the workloads of another folder, which a test may damage."""
    return _run([sys.executable, "-c", MOVED, str(root)], arguments, cwd, {})


def _run(
    command: list[str], arguments: Sequence[str | Path], cwd: Path, environment: dict[str, str]
) -> Said:
    done = subprocess.run(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Said(code=done.returncode, out=done.stdout, err=done.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class MainJob:
    """One real run of both scenarios, shared by the tests that look at it."""

    said: Said
    folder: Path

    @property
    def bundles(self) -> dict[str, Path]:
        """The bundles by scenario."""
        found = self.folder.glob("submissions/*/*/*/*/*/*/record.json")
        return {path.parent.parent.name: path.parent for path in found}


@pytest.fixture(scope="session")
def main_job(tmp_path_factory: pytest.TempPathFactory) -> MainJob:
    """`bench run` of the embedded workload, both scenarios."""
    folder = tmp_path_factory.mktemp("main-job")
    # The budget is for people's patience; a busy test machine gets more.
    said = bench("run", "--workload", "assistant", "--format", "json", "--budget", "30", cwd=folder)
    return MainJob(said=said, folder=folder)
