"""`bench --help` is cheap, and the judging half runs where torch cannot be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MAX_HELP_CPU_S = 0.5

# Runs in the child before anything of ours: torch and transformers then behave as if not installed.
BLOCK_TORCH = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
"""

HELP = """
import resource, sys
from edgebench.cli import main
try:
    main(["--help"])
except SystemExit as stop:
    assert stop.code == 0, stop.code
used = resource.getrusage(resource.RUSAGE_SELF)
heavy = {"torch", "transformers", "pandas", "scipy", "sklearn", "altair"} & sys.modules.keys()
import json
print("\\n" + json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "heavy": sorted(heavy)}))
"""

JUDGING = (
    "edgebench.bundle",
    "edgebench.checker",
    "edgebench.mlperf",
    "edgebench.record",
    "edgebench.rules",
    "edgebench_kernels",
    "edgebench_reports",
    "edgebench_workloads",
)


def python(code: str, environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, away from the checkout."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=120,
        check=False,
    )


def test_help_is_cheap(house_environment: dict[str, str], tmp_path: Path) -> None:
    tries = []
    for _ in range(3):  # the first may compile bytecode; a busy machine costs CPU time too
        done = python(HELP, house_environment, tmp_path)
        assert done.returncode == 0, done.stderr
        tries.append(json.loads(done.stdout.splitlines()[-1]))
    assert tries[0]["heavy"] == []
    assert min(one["cpu_s"] for one in tries) < MAX_HELP_CPU_S, tries


@pytest.mark.parametrize("module", JUDGING)
def test_judging_modules_import_without_torch(
    module: str, house_environment: dict[str, str], tmp_path: Path
) -> None:
    done = python(f"{BLOCK_TORCH}\nimport {module}", house_environment, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["check", "leaderboard"])
def test_judging_commands_run_without_torch(
    command: str, house_environment: dict[str, str], tmp_path: Path
) -> None:
    code = f"{BLOCK_TORCH}\nfrom edgebench.cli import main\nmain([{command!r}, '--help'])"
    done = python(code, house_environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout


def test_check_judges_without_torch(house_environment: dict[str, str], tmp_path: Path) -> None:
    """An empty folder is refused as a bundle (exit 5), not with a missing module (exit 1)."""
    empty = tmp_path / "empty"
    empty.mkdir()
    code = f"{BLOCK_TORCH}\nfrom edgebench.cli import main\nmain(['check', {str(empty)!r}])"
    done = python(code, house_environment, tmp_path)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr


def test_the_block_blocks(house_environment: dict[str, str], tmp_path: Path) -> None:
    done = python(f"{BLOCK_TORCH}\nimport torch.nn", house_environment, tmp_path)
    assert done.returncode == 1
    assert "torch is blocked" in done.stderr
