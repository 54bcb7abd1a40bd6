"""The emulation tests on a real GPU: a pytest plugin that puts one in the emulator's place.

    python -m pytest -p tests.cuda.on_gpu --gpu-results results.jsonl tests/cuda

`OnGpu` has the emulator's interface. The four schedules become four launches, which must give the
same bits. What only an emulator can do (planted bugs) is skipped.

Results are appended line by line; a run with the same file goes on behind what it finds there, so
that a test which takes the process down is passed over the next time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from . import emulation
from .emulation import Launch, Variant
from .gpu_device import Device, NotHere

EXIT_LOST = 77
PLANTED = "planted bugs are for the emulator: on a GPU anything may happen"


class OnGpu:
    """`Emulation` on the GPU of this process."""

    device: Device
    is_once = False
    """Whether launches that differ in their schedule alone run once."""

    def __init__(self, folder: Path, variants: Sequence[Variant], flags: object = None) -> None:
        del folder, flags
        self.variants = list(dict.fromkeys(variants))
        own = [variant for variant in self.variants if not variant.patches]
        if not own:
            pytest.skip(PLANTED)
        if not self.is_once:
            self.device.compile(own)

    def run(self, launches: Sequence[Launch], timeout_s: float = 300) -> list[list[NDArray]]:
        """The buffers of each launch after it ran; raises EmulationError with what went wrong."""
        del timeout_s
        if any(launch.variant.patches for launch in launches):
            pytest.skip(PLANTED)
        results: list[list[NDArray]] = []
        for i, launch in enumerate(launches):
            if self.is_once and i and _is_same(launch, launches[i - 1]):
                results.append(results[-1])
                continue
            try:
                results.append(self.device.launch(launch))
            except NotHere as reason:
                pytest.skip(str(reason))
        return results


def _is_same(one: Launch, other: Launch) -> bool:
    return (
        one.variant == other.variant
        and (one.grid, one.cluster) == (other.grid, other.cluster)
        and len(one.arguments) == len(other.arguments)
        and all(a is b for a, b in zip(one.arguments, other.arguments, strict=True))
    )


# ------------------------------------------------------------------------------------------- pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gpu", "emulation tests on a GPU")
    group.addoption("--gpu-results", type=Path, help="append what came of each test to this file")
    group.addoption("--gpu-exact", action="store_true", help="exact allocations, one launch each")


def pytest_configure(config: pytest.Config) -> None:
    """Put the GPU in the emulator's place, before test modules import it."""
    OnGpu.is_once = config.getoption("--gpu-exact")
    OnGpu.device = Device.open(is_exact=OnGpu.is_once)
    emulation.Emulation = OnGpu  # type: ignore[misc, assignment]


def results_of(path: Path | None) -> list[dict[str, Any]]:
    """The lines of a results file, complete ones only."""
    if path is None or not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Pass over what an earlier run has begun, and what needs no kernel."""
    begun = {row["test"] for row in results_of(config.getoption("--gpu-results"))}
    kept = [
        item for item in items if item.nodeid not in begun and not item.get_closest_marker("nvrtc")
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _append(config: pytest.Config, row: dict[str, Any]) -> None:
    path = config.getoption("--gpu-results")
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Note the beginning of a test, and leave once the context is lost."""
    _append(item.config, {"test": item.nodeid, "event": "begin"})
    begin = time.monotonic()
    done = yield
    _append(item.config, {"test": item.nodeid, "event": "end", "s": time.monotonic() - begin})
    if OnGpu.device.lost and nextitem is not None:
        pytest.exit(f"the context is lost: {OnGpu.device.lost}", returncode=EXIT_LOST)
    return done


def _reported(report: pytest.TestReport) -> dict[str, Any] | None:
    """What a phase of a test says of the test; None where it says nothing new."""
    if report.when != "call" and report.passed:
        return None
    row: dict[str, Any] = {"test": report.nodeid, "event": report.outcome}
    if report.skipped and isinstance(report.longrepr, tuple):
        row["text"] = report.longrepr[2]
    elif report.failed:
        row["text"] = str(report.longrepr)[-1500:]
    return row


class _Reporter:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if row := _reported(report):
            _append(self._config, row)


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(_Reporter(session.config))
