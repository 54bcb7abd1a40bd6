"""`__all__`, where a module has one, lists names that the module binds, each once."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("harness", "workloads", "kernels", "reports")


def public_names(tree: ast.Module) -> list[str] | None:
    """The literal `__all__` of a module, or None."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets) and node.value:
                return list(ast.literal_eval(node.value))
    return None


def bound_names(tree: ast.Module) -> set[str]:
    """What a module binds at its top level, or answers for in `__getattr__`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            if node.name == "__getattr__":
                names |= {
                    c.value
                    for c in ast.walk(tree)
                    if isinstance(c, ast.Constant) and isinstance(c.value, str)
                }
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def test_public_names_are_bound() -> None:
    broken = []
    for source in SOURCES:
        for path in sorted((ROOT / source).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = public_names(tree)
            if names is None:
                continue
            where = path.relative_to(ROOT)
            submodules = (
                {p.stem for p in path.parent.glob("*.py")} if path.stem == "__init__" else set()
            )
            unbound = sorted(set(names) - bound_names(tree) - submodules)
            twice = sorted({name for name in names if names.count(name) > 1})
            broken += [f"{where}: {name} is not bound" for name in unbound]
            broken += [f"{where}: {name} is listed twice" for name in twice]
    assert not broken, "\n".join(broken)
