"""Where a run's code came from and how it was called, without naming a person or a host.

Home directories become `~`, the working directory `.`; no host name, user name or address is read.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import edgebench

GIT_TIMEOUT_S = 2.0
PACKAGES = (
    "edgebench",
    "cuda-core",
    "mlcommons-loadgen",
    "numpy",
    "nvidia-ml-py",
    "pandas",
    "pydantic",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
# The variables that steer us or the thread pools below us.
VARIABLES = re.compile(
    r"EDGEBENCH_\w+|(OMP|MKL|OPENBLAS)_NUM_THREADS|OMP_PROC_BIND|GOMP_CPU_AFFINITY"
)
SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY|CREDENTIAL", re.IGNORECASE)
_BORDER = r"(?<![\w./~-])"
_NAME = r"[^/\s:,;'\"]+"


def reduce_paths(text: str, *, cwd: Path | None = None, home: Path | None = None) -> str:
    """Replace the working directory by `.`, home directories by `~`, our user's name by `_`."""
    cwd, home = cwd or Path.cwd(), home or Path.home()
    places = [(str(cwd), "."), (str(home), "~")]
    for place, short in sorted(places, key=lambda pair: -len(pair[0])):
        if place not in ("/", "", "."):
            text = re.sub(rf"{_BORDER}{re.escape(place)}(?=$|[/\s:,;'\"])", short, text)
    text = re.sub(rf"{_BORDER}/(?:home|Users)/{_NAME}", "~", text)
    text = re.sub(rf"/(home|Users)/{_NAME}", r"/\1/_", text)
    if home.name not in ("", "root"):
        text = re.sub(rf"/{re.escape(home.name)}(?=$|[/\s:,;'\"])", "/_", text)
    return text


def command_line(arguments: Sequence[str] | None = None) -> str:
    """Return the command that was typed, its paths reduced, ready to be pasted into a shell."""
    given = list(sys.argv if arguments is None else arguments)
    if not given:
        return ""
    reduced = [Path(given[0]).name, *(reduce_paths(argument) for argument in given[1:])]
    # A reduced `~` has to stay outside of quotes to be a home again.
    return " ".join(
        word if re.fullmatch(r"[~\w./=:@%+,-]+", word) else shlex.quote(word) for word in reduced
    )


def package_versions() -> dict[str, str]:
    """Return the installed versions of what a result depends on, without importing any of it."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        version = _version(name)
        if version is not None:
            found[name] = version
    found.setdefault("edgebench", edgebench.__version__)
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that steer a run, paths reduced, secrets only as set."""
    given = os.environ if variables is None else variables
    return {
        name: "(set)" if SECRET.search(name) else reduce_paths(given[name])[:200]
        for name in sorted(given)
        if VARIABLES.fullmatch(name)
    }


def git_state(file: Path | None = None) -> tuple[str, bool] | None:
    """Return (commit, dirty) of the checkout that `file` is tracked in, None outside of one.

    Tracked, not merely below: an environment inside somebody's repository is not its code.
    """
    code = Path(file or edgebench.__file__).resolve()
    if _git(code.parent, "ls-files", "--error-unmatch", code.name) is None:
        return None
    commit = _git(code.parent, "rev-parse", "HEAD")
    changes = _git(code.parent, "status", "--porcelain", "--untracked-files=no")
    if not commit or changes is None:
        return None
    return commit, bool(changes)


def _git(directory: Path, *arguments: str) -> str | None:
    """Run git without locks and without its caller's variables; None if it fails or is slow."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ("git", *arguments),
            cwd=directory,
            env=clean | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
