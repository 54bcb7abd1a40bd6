"""`scripts/install.sh` stops where the machine lacks something, and sees what GPU it has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def install(root: Path, bin_dir: Path, venv: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a PATH of a few programs."""
    environment = {"PATH": str(bin_dir), "HOME": str(venv.parent), **more}
    return subprocess.run(
        [shutil.which("bash") or "bash", str(root / "scripts" / "install.sh"), str(venv), "test"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


@pytest.fixture
def bare_bin(tmp_path: Path) -> Path:
    """A PATH with Python and coreutils, and no compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in ("dirname", "sed", "uname", "grep"):
        (folder / program).symlink_to(shutil.which(program) or program)
    (folder / "python3").symlink_to(os.path.realpath(sys.executable))
    return folder


def test_no_compiler(root: Path, bare_bin: Path, tmp_path: Path) -> None:
    done = install(root, bare_bin, tmp_path / "venv")
    assert done.returncode == 1
    assert "apt-get install g++" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "venv").exists()


def test_no_python(root: Path, bare_bin: Path, tmp_path: Path) -> None:
    (bare_bin / "python3").unlink()
    done = install(root, bare_bin, tmp_path / "venv")
    assert done.returncode == 1
    assert "apt-get install python3 python3-venv" in done.stderr


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (
            'case "$2" in *version_info*) exit 1;; esac; echo Python 3.8.1',
            "3.10 or newer is needed",
        ),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt-get install python3-venv"),
    ],
)
def test_an_unfit_python(
    root: Path, bare_bin: Path, tmp_path: Path, fake: str, message: str
) -> None:
    (bare_bin / "python3").unlink()
    script = bare_bin / "python3"
    script.write_text(f"#!{shutil.which('sh')}\n{fake}\n")
    script.chmod(0o755)
    done = install(root, bare_bin, tmp_path / "venv")
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.fixture
def fake_venv(bare_bin: Path, tmp_path: Path) -> Path:
    """A PATH with a compiler, and an environment whose pip only says what it is asked."""
    (bare_bin / "g++").symlink_to(shutil.which("true") or "true")
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "pip").touch(mode=0o755)
    python = folder / "python"
    python.write_text(f'#!{shutil.which("sh")}\necho "$@"\n')
    python.chmod(0o755)
    return folder.parent


@pytest.mark.parametrize(
    ("gpus", "is_jetson", "extras"),
    [
        (None, False, "test"),
        ("No devices found.", False, "test"),
        ("GPU 0: NVIDIA H200 (UUID: GPU-1)", False, "test,nvidia"),
        ("GPU 0: Orin (nvgpu)", True, "test,jetson"),
        (None, True, "test,jetson"),
    ],
)
def test_a_gpu_brings_its_extra(
    root: Path,
    bare_bin: Path,
    fake_venv: Path,
    gpus: str | None,
    is_jetson: bool,
    extras: str,
) -> None:
    if gpus is not None:
        (bare_bin / "nvidia-smi").write_text(f"#!{shutil.which('sh')}\necho '{gpus}'\n")
        (bare_bin / "nvidia-smi").chmod(0o755)
    release = fake_venv / "nv_tegra_release"
    if is_jetson:
        release.touch()
    done = install(root, bare_bin, fake_venv, TEGRA_RELEASE=str(release))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"-m pip install -e .[{extras}]"
