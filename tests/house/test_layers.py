"""Imports go one way, kernels <- workloads <- harness <- reports <- cli; judging needs no torch."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

# Lowest first. A module may import its own row and the rows above it in this table.
ROOMS = {
    "edgebench_kernels": "kernels",
    "edgebench_workloads": "workloads",
    "edgebench": "harness",
    "edgebench_reports": "reports",
    "edgebench.cli": "harness",
}
ORDER = list(ROOMS)

# Modules (and everything under them) that never import torch, not even inside a function.
NEVER_TORCH = (
    "edgebench.bundle",
    "edgebench.checker",
    "edgebench.codec",
    "edgebench.confidence",
    "edgebench.devices",
    "edgebench.errors",
    "edgebench.loadgen",
    "edgebench.meters",
    "edgebench.mlperf",
    "edgebench.record",
    "edgebench.rows",
    "edgebench.rulebook",
    "edgebench.rules",
    "edgebench.scenarios",
    "edgebench.spec",
    "edgebench.stats",
    "edgebench.system",
    "edgebench.units",
    "edgebench_kernels.ceilings",
    "edgebench_kernels.cuda.census",
    "edgebench_kernels.cuda.driver_calls",
    "edgebench_kernels.cuda.kernels",
    "edgebench_kernels.formats",
    "edgebench_kernels.native",
    "edgebench_kernels.quantize",
    "edgebench_reports",
    "edgebench_workloads.catalog",
    "edgebench_workloads.widen",
)
# Modules that may import torch inside a function, and not while they are imported.
LAZY_TORCH = (
    "edgebench",
    "edgebench.cli",
    "edgebench_kernels",
    "edgebench_kernels.cuda.driver",
    "edgebench_workloads",
)
MEASURING = ("torch", "transformers")


class Import(NamedTuple):
    """One imported name: where it stands, and whether importing the module executes it."""

    path: Path
    line: int
    target: str
    name: str | None
    is_lazy: bool

    def __str__(self) -> str:
        """File and line, as an editor follows them."""
        name = f".{self.name}" if self.name else ""
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.target}{name}"


def modules() -> dict[str, Path]:
    """Every module of the four packages by its dotted name."""
    found = {}
    for package in ORDER:
        source = ROOT / ROOMS[package]
        for path in (source / package.partition(".")[0]).rglob("*.py"):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def imports(module: str, path: Path) -> tuple[Import, ...]:
    """Every import of a module but those that only a type checker follows."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, is_lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(path, child.lineno, alias.name, None, is_lazy)
            elif isinstance(child, ast.ImportFrom):
                base = package.split(".")[: len(package.split(".")) - child.level + 1]
                prefix = ".".join(base) if child.level else ""
                target = ".".join(part for part in (prefix, child.module) if part)
                for alias in child.names:
                    yield Import(path, child.lineno, target, alias.name, is_lazy)
            elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
                is_body = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, is_lazy or is_body)

    return tuple(walk(ast.parse(path.read_text(encoding="utf-8")), False))


def room_of(module: str) -> str | None:
    """The row of the table that a module belongs to; None for a third party's."""
    if module == "edgebench.cli" or module.startswith(("edgebench.cli.", "edgebench.__main__")):
        return "edgebench.cli"
    top = module.partition(".")[0]
    return top if top in ROOMS else None


def is_under(module: str, names: tuple[str, ...]) -> bool:
    """Whether a module is one of the names, or lies in one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


MODULES = modules()


def target_of(found: Import) -> str:
    """The module that an import executes: `from package import module` executes the module."""
    inner = f"{found.target}.{found.name}"
    return inner if inner in MODULES else found.target


def test_every_room_is_there() -> None:
    tops = {name.partition(".")[0] for name in MODULES}
    assert tops == {room for room in ROOMS if "." not in room}


def test_imports_go_one_way() -> None:
    broken = []
    for module, path in MODULES.items():
        own = ORDER.index(room_of(module) or "")
        for found in imports(module, path):
            theirs = room_of(target_of(found))
            if theirs is not None and ORDER.index(theirs) > own:
                broken.append(f"{found}: {ORDER[own]} may import {', '.join(ORDER[: own + 1])}")
    assert not broken, "\n".join(broken)


def test_private_names_stay_in_their_file() -> None:
    broken = [
        str(found)
        for module, path in MODULES.items()
        for found in imports(module, path)
        if room_of(found.target)
        and (found.name or "").startswith("_")
        and not (found.name or "").startswith("__")
    ]
    assert not broken, "\n".join(broken)


def test_the_judging_half_never_imports_torch() -> None:
    broken = [
        str(found)
        for module, path in MODULES.items()
        if is_under(module, NEVER_TORCH)
        for found in imports(module, path)
        if found.target.partition(".")[0] in MEASURING
    ]
    assert not broken, "\n".join(broken)


def heavy_chain(module: str, seen: tuple[str, ...] = ()) -> str | None:
    """The shortest story of how importing a module executes torch, or None."""
    if module in seen:
        return None
    for found in imports(module, MODULES[module]):
        if found.is_lazy:
            continue
        if found.target.partition(".")[0] in MEASURING:
            return str(found)
        target = target_of(found)
        if target in MODULES and (chain := heavy_chain(target, (*seen, module))):
            return f"{found}\n  {chain}"
    return None


@pytest.mark.parametrize(
    "module", [m for m in MODULES if is_under(m, NEVER_TORCH)] + list(LAZY_TORCH)
)
def test_importing_executes_no_torch(module: str) -> None:
    assert module in MODULES, f"{module} is named here and is not there"
    chain = heavy_chain(module)
    assert chain is None, f"importing {module} imports torch:\n  {chain}"


@pytest.mark.parametrize("name", NEVER_TORCH)
def test_torch_free_names_exist(name: str) -> None:
    assert any(is_under(module, (name,)) for module in MODULES), f"{name} names no module"


def test_a_forbidden_import_is_seen(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pandas\n"
        "from ..run import measure\n"
        "def inner():\n    import torch.nn\n"
    )
    seen = [
        (i.line, i.target, i.name, i.is_lazy) for i in imports("edgebench.meters.planted", planted)
    ]
    assert (5, "edgebench.run", "measure", False) in seen
    assert (7, "torch.nn", None, True) in seen
    assert not any(target == "pandas" for _, target, _, _ in seen)
