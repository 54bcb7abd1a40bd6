"""The wheel holds the four packages with their data and the compiled library, and no sources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgebench_kernels.cuda.source import expand

pytestmark = [pytest.mark.slow, pytest.mark.native]

PACKAGES = {
    "edgebench": "harness",
    "edgebench_workloads": "workloads",
    "edgebench_kernels": "kernels",
    "edgebench_reports": "reports",
}
SHOW_SOURCES = """
import json
from edgebench_kernels.cuda import compile as nvrtc, source
folder = nvrtc.source_folder()
texts = {path.name: source.expand(path) for path in folder.glob("*.cu")}
print(json.dumps({"package": nvrtc.__file__, "folder": str(folder), "texts": texts}))
"""


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout, as `pip install .` would."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "-q",
        "-w",
        str(folder),
        str(root),
    ]
    subprocess.run(command, check=True, timeout=900)
    (found,) = folder.glob("edgebench-*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """The paths inside the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_is_for_any_python3(wheel: Path) -> None:
    assert "-py3-none-" in wheel.name


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_of_a_package_is_in_it(package: str, names: set[str], root: Path) -> None:
    source = root / PACKAGES[package]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", package],
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert f"{package}/py.typed" in names
    assert len(listed) > 3
    assert not set(listed) - names


def test_the_library_is_in_it(names: set[str]) -> None:
    assert "edgebench_kernels/libedgebench_kernels.so" in names


def test_nothing_else_is_in_it(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    others = names - set(gpu_sources(names))
    assert not [name for name in others if name.endswith((".cpp", ".h", ".cu", ".cuh", ".pyc"))]


def gpu_sources(names: set[str]) -> list[str]:
    """What the wheel holds below the folder of the GPU kernels' sources."""
    return [name for name in names if name.startswith("edgebench_kernels/csrc/")]


def test_the_gpu_sources_are_in_it(names: set[str], root: Path) -> None:
    """Every file that a kernel may include, and nothing else, in the places of the checkout."""
    csrc = root / "kernels" / "csrc"
    paths = [*csrc.glob("cuda/*.cu"), *csrc.glob("cuda/*.cuh"), csrc / "int4_format_cuda.h"]
    expected = [f"edgebench_kernels/csrc/{path.relative_to(csrc)}" for path in paths]
    assert len(expected) > 3
    assert sorted(gpu_sources(names)) == sorted(expected)


def test_an_installed_package_finds_the_gpu_sources(
    wheel: Path, root: Path, tmp_path: Path, house_environment: dict[str, str]
) -> None:
    """Outside the checkout, each kernel's text is what it is inside."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-S", "-c", SHOW_SOURCES],  # without the editable install
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**house_environment, "PYTHONPATH": str(tmp_path)},
        timeout=60,
        check=True,
    )
    shown = json.loads(done.stdout)
    assert shown["package"] == str(tmp_path / "edgebench_kernels" / "cuda" / "compile.py")
    assert shown["folder"] == str(tmp_path / "edgebench_kernels" / "csrc" / "cuda")
    folder = root / "kernels" / "csrc" / "cuda"
    assert shown["texts"] == {path.name: expand(path) for path in folder.glob("*.cu")}


def test_it_says_its_licence_and_its_command(wheel: Path, names: set[str]) -> None:
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "bench = edgebench.cli:main" in archive.read(entry).decode()


def test_no_compiler_names_the_package_to_install(root: Path, tmp_path: Path) -> None:
    """`pip install` where CMake finds no C++ compiler."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path / "out")),
            *("-C", f"build-dir={tmp_path / 'build'}", str(root)),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "CXX": str(tmp_path / "no-such-compiler")},
        timeout=900,
        check=False,
    )
    assert done.returncode != 0
    assert "apt-get install g++" in done.stdout + done.stderr
