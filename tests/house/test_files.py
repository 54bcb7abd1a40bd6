"""The shape of the tree: short files and functions, no junk drawers, no one machine's paths."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("harness", "workloads", "kernels", "reports")
MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 50
CODE = {".py", ".cpp", ".h", ".cu", ".cuh", ".sh"}
TEXT = CODE | {".md", ".toml", ".yaml", ".j2", ".html", ".js", ".css", ".txt"}
JUNK_DRAWERS = ("utils", "util", "common", "helpers", "helper", "misc")
SKIPPED = {".git", ".venv", "out", "build", "dist", "__pycache__", "submissions", "node_modules"}
# Absolute paths that exist on one machine only.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root)/[\w.-]+")


def files(*tops: str, suffixes: set[str]) -> list[Path]:
    """The files with these suffixes below the named folders."""
    return sorted(
        path
        for top in tops
        for path in (ROOT / top).rglob("*")
        if path.suffix in suffixes
        and path.is_file()
        and not SKIPPED.intersection(path.relative_to(ROOT).parts)
    )


CODE_FILES = files(*SOURCES, "tests", "scripts", suffixes=CODE)
PYTHON_SOURCES = files(*SOURCES, suffixes={".py"})


def test_files_were_found() -> None:
    assert len(PYTHON_SOURCES) > 20


def test_no_file_is_too_long() -> None:
    counts = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in CODE_FILES}
    long = [f"{p.relative_to(ROOT)}: {n} lines" for p, n in counts.items() if n > MAX_FILE_LINES]
    assert not long, "\n".join(long)


def test_no_function_is_too_long() -> None:
    long = []
    for path in PYTHON_SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                count = (node.end_lineno or node.lineno) - node.lineno + 1
                if count > MAX_FUNCTION_LINES:
                    long.append(
                        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {count} lines"
                    )
    assert not long, "\n".join(long)


def test_kernels_is_not_a_package() -> None:
    """A top-level package of that name breaks `import transformers`, which probes for it."""
    assert not (ROOT / "kernels" / "__init__.py").exists()


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_root_holds_one_package(source: str) -> None:
    packages = [p.parent.name for p in (ROOT / source).glob("*/__init__.py")]
    assert packages == ["edgebench" if source == "harness" else f"edgebench_{source}"]


@pytest.mark.parametrize("source", SOURCES)
def test_every_package_is_typed(source: str) -> None:
    assert list((ROOT / source).glob("*/py.typed"))


def test_no_junk_drawers() -> None:
    drawers = [str(p.relative_to(ROOT)) for p in CODE_FILES if p.stem in JUNK_DRAWERS]
    assert not drawers, f"name the idea instead: {drawers}"


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(p.relative_to(ROOT))
        for p in PYTHON_SOURCES
        if p.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))
    ]
    assert not silent, f"no module docstring: {silent}"


def test_no_machine_paths() -> None:
    found = []
    for path in [*files(*SOURCES, "tests", "scripts", "docs", suffixes=TEXT), *ROOT.glob("*.md")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if match := MACHINE_PATH.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number} {match[0]}")
    assert not found, "\n".join(found)
