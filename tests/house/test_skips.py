"""Where the environment says that a test must run, its skip is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SKIPPING = """
import pytest

@pytest.mark.{marker}
def test_one():
    pytest.skip("what it needs is missing")
"""
REQUIRE = {
    "browser": "EDGEBENCH_REQUIRE_BROWSER",
    "meters": "EDGEBENCH_REQUIRE_METERS",
    "nvrtc": "EDGEBENCH_REQUIRE_NVRTC",
    "servers": "EDGEBENCH_REQUIRE_SERVERS",
    "formats": "EDGEBENCH_REQUIRE_FORMATS",
}


@pytest.mark.parametrize("marker", REQUIRE)
@pytest.mark.parametrize(("is_required", "exit_code"), [(False, 0), (True, 1)])
def test_a_required_test_may_not_skip(
    marker: str,
    is_required: bool,
    exit_code: int,
    root: Path,
    tmp_path: Path,
    house_environment: dict[str, str],
) -> None:
    (tmp_path / "test_one.py").write_text(SKIPPING.format(marker=marker))
    (tmp_path / "conftest.py").write_text((root / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers =\n    {marker}: needs something\n")
    required = {REQUIRE[marker]: "1"} if is_required else {}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**house_environment, **required},
        timeout=60,
        check=False,
    )
    assert done.returncode == exit_code, done.stdout
