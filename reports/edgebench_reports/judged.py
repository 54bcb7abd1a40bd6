"""Judging one bundle: the checker's word on it, as a value that can be kept and believed again."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from pydantic import JsonValue

from edgebench import layout
from edgebench.bundle import read_bundle
from edgebench.checker import KnownWorkload, check
from edgebench.codec import read_capped
from edgebench.errors import BundleError
from edgebench.record import Record
from edgebench_reports.evidence import Evidence, gather

Lookup = Callable[[str], KnownWorkload]

READ_SCHEMA = 1  # Record.schema_version
JUDGES = ("edgebench", "edgebench_workloads", "edgebench_kernels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One bundle and what the checker said; a refused one has no record."""

    path: str
    """Below the root that was searched."""
    findings: tuple[str, ...]
    """Errors of a refused bundle, warnings of an accepted one."""
    record: Record | None = None
    system: dict[str, JsonValue] = field(default_factory=dict, repr=False)
    evidence: Evidence = field(default_factory=Evidence, repr=False)


def shown_path(root: Path, path: Path) -> str:
    """Return a bundle's path below its root; a bundle that is the root has its own name."""
    return str(path.relative_to(root)) if path != root else path.name


def judge(root: Path, path: Path, lookup: Lookup) -> Judged:
    """Check one bundle; whatever is wrong with it becomes a finding that names it."""
    shown = shown_path(root, path)
    try:
        findings = check(path, lookup=lookup)
        errors = tuple(str(found) for found in findings if found.severity == "error")
        if errors:
            return Judged(path=shown, findings=(*_newer(path), *errors))
        bundle = read_bundle(path)
        evidence = gather(bundle)
    except BundleError as err:
        return Judged(path=shown, findings=(*_newer(path), str(err)))
    return Judged(
        path=shown,
        findings=tuple(str(found) for found in findings),
        record=bundle.record,
        system=bundle.system.model_dump(mode="json"),
        evidence=evidence,
    )


def _newer(path: Path) -> tuple[str, ...]:
    """Say first that a bundle is newer than this program, where that is what is wrong with it."""
    try:
        data = json.loads(read_capped(path / layout.RECORD, layout.SIZE_LIMITS[layout.RECORD]))
    except (BundleError, ValueError, RecursionError):
        return ()
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > READ_SCHEMA:
        text = f"expected a record of schema {READ_SCHEMA}, got schema {version}"
        return (f"[{layout.RECORD}] {text}; a newer EdgeBench wrote it: update this one",)
    return ()


def fingerprint(path: Path) -> str:
    """Return what changes when a file of a bundle does: names, sizes, times, and the checksums."""
    digest = hashlib.sha256()
    with os.scandir(path) as listing:
        for entry in sorted(listing, key=lambda entry: entry.name):
            status = entry.stat(follow_symlinks=False)
            digest.update(
                f"{entry.name}\0{status.st_mode}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(
                    errors="surrogateescape"
                )
            )
    digest.update("\0".join(path.absolute().parts[-layout.DEPTH :]).encode(errors="replace"))
    try:
        digest.update(read_capped(path / layout.CHECKSUMS, layout.SIZE_LIMITS[layout.CHECKSUMS]))
    except BundleError:
        digest.update(b"no checksums")
    return digest.hexdigest()


@functools.cache
def judge_sha256() -> str:
    """Return the hash of the code and tables that judge: another program must judge again."""
    digest = hashlib.sha256()
    for package in JUDGES:
        spec = find_spec(package)
        for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
            sources = (path for path in folder.rglob("*") if path.suffix in (".py", ".toml"))
            for path in sorted(sources):
                digest.update(f"{package}/{path.relative_to(folder)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
