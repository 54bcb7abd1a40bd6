"""What every test may ask for, and the rule that CI's optional tests (browser, NVRTC, ...) run."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OPTIONAL = ("browser", "meters", "nvrtc", "servers", "formats")


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout's root."""
    return ROOT


@pytest.fixture
def house_environment() -> dict[str, str]:
    """The environment for a child process: ours, less what would change what it measures."""
    dropped = ("EDGEBENCH_", "PYTHONPROFILEIMPORTTIME", "PYTHONDEVMODE", "COV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def variable_that_forbids_skipping(item: pytest.Item) -> str | None:
    """The environment variable, if set, under which this test must run."""
    marker = next(filter(item.get_closest_marker, OPTIONAL), None)
    if marker is None and ROOT / "tests" / "loadgen" in item.path.parents:
        marker = "loadgen"
    variable = f"EDGEBENCH_REQUIRE_{marker.upper()}" if marker else None
    return variable if variable and os.environ.get(variable) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where the environment says that the test must run."""
    report = yield
    variable = variable_that_forbids_skipping(item)
    if variable and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{variable} is set, and this skipped: {report.longrepr}"
    return report
