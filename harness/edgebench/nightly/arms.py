"""The two arms of a night: interpreters in which head and the pinned baseline are installed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgebench.errors import DeviceUnavailable, RunFailed, SpecError
from edgebench.nightly.suite import WorkloadCell
from edgebench_workloads.cache import cache_root

PROCESS_LIMIT_S = 1800.0
INSTALL_LIMIT_S = 3600.0
SHOWN_CHARACTERS = 300  # of another program's last words
NEEDED = "import edgebench.__main__, edgebench_kernels.packing, edgebench_kernels.race.cases"
OF_THIS_INSTALLATION = ("EDGEBENCH_KERNELS_LIBRARY", "PYTHONPATH")
GIT, VERSION, SELF = "git:", "version:", "self"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One installed EdgeBench."""

    label: str
    python: Path


def find_arm(text: str) -> Arm:
    """Return the arm that a text names, installing it where that is needed.

    `self` is this interpreter; a path is an interpreter or an environment's folder; `git:REV` and
    `version:X` are installed into an environment of their own and kept. SpecError for a path that
    is none, DeviceUnavailable (exit 3) where the installation fails.
    """
    if text == SELF:
        return Arm(label=SELF, python=Path(sys.executable))
    if text.startswith(GIT):
        return _install(text, _from_git(text.removeprefix(GIT)))
    if text.startswith(VERSION):
        return _install(text, f"edgebench=={text.removeprefix(VERSION)}")
    path = Path(text)
    python = path / "bin" / "python" if path.is_dir() else path
    if not os.access(python, os.X_OK) or not python.is_file():
        raise SpecError(
            f"[nightly] expected self, git:REV, version:X, an interpreter or an environment's "
            f"folder, got {text!r}; install the baseline there first"
        )
    return Arm(label=path.name, python=python)


def _from_git(revision: str) -> str:
    """Return what pip installs for a revision of the repository that this code runs from."""
    here = Path(__file__).parent
    top = _said(["git", "-C", str(here), "rev-parse", "--show-toplevel"], revision)
    commit = _said(["git", "-C", top, "rev-parse", "--verify", f"{revision}^{{commit}}"], revision)
    return f"git+{Path(top).as_uri()}@{commit}"  # with a name before it, older pips refuse file://


def _said(command: Sequence[str], what: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeviceUnavailable(
            f"[nightly] expected a baseline at git:{what}, got {last_words(done.stderr)}; "
            "name a revision of this checkout, or an environment's folder"
        )
    return done.stdout.strip()


def _install(label: str, requirement: str) -> Arm:
    """Install into an environment that sees this one's libraries, and only EdgeBench anew."""
    name = hashlib.sha256(f"{requirement} {sys.prefix}".encode()).hexdigest()[:16]
    folder = cache_root() / "baselines" / name
    python, done = folder / "bin" / "python", folder / "installed"
    if done.is_file():
        return Arm(label=label, python=python)
    steps = (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", requirement],
    )
    for step in steps:
        _step(label, step)
    links = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (links / "libraries.pth").write_text("\n".join(ours) + "\n")
    _step(label, [str(python), "-c", NEEDED])
    done.write_text(requirement + "\n")
    return Arm(label=label, python=python)


def _step(label: str, command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALL_LIMIT_S
        )
        came = None if done.returncode == 0 else last_words(done.stderr or done.stdout)
    except (OSError, subprocess.TimeoutExpired) as err:
        came = str(err)
    if came is not None:
        raise DeviceUnavailable(
            f"[nightly] expected to install the baseline {label}, got {came}; install it by hand "
            "and name its environment's folder"
        )


def last_words(text: str) -> str:
    """Return the last line that says it is an error, since pip ends with hints; else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    return ([*lines, *errors] or ["no word"])[-1][:SHOWN_CHARACTERS]


def own_environment(arm: Arm) -> dict[str, str]:
    """Return the variables for an arm's process: another arm keeps its own kernels and sources."""
    if arm.label == SELF:
        return dict(os.environ)
    return {name: value for name, value in os.environ.items() if name not in OF_THIS_INSTALLATION}


def run_workload(arm: Arm, cell: WorkloadCell) -> dict[str, float]:
    """Run one workload in a fresh process of an arm; return ns per answer of fp16 and int4."""
    with tempfile.TemporaryDirectory(prefix="edgebench-night-") as out:
        command = [
            str(arm.python), "-m", "edgebench", "run", "--track", "closed", "--workload",
            cell.workload, "--scenario", cell.scenario, "--kernel", "fp16,int4",
            "--profile", cell.profile, "--out", out, "--format", "json", "--quiet",
        ]  # fmt: skip
        text = _answer(arm, command)
    times: dict[str, float] = {}
    for row in json.loads(text):
        if cell.scenario == "offline" and row["samples_per_s"]:
            times[row["kernel"]] = 1e9 / row["samples_per_s"]
        elif cell.scenario == "single-stream" and row["latency_p50_ms"]:
            times[row["kernel"]] = 1e6 * row["latency_p50_ms"]
    if not times.keys() >= {"fp16", "int4"}:
        raise RunFailed(f"[nightly] expected times of fp16 and int4 of {cell.name}, got {times}")
    return times


def _answer(arm: Arm, command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            timeout=PROCESS_LIMIT_S, env=own_environment(arm),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as err:
        raise RunFailed(f"[nightly] expected {arm.label} to answer, got {err}") from err
    if done.returncode not in (0, 5):  # 5: measured, and the accuracy gate was missed
        raise RunFailed(
            f"[nightly] expected {arm.label} to measure, got exit {done.returncode}: "
            f"{last_words(done.stderr)}"
        )
    return done.stdout
