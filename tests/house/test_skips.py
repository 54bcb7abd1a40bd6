"""Where the environment says that a browser test must run, its skip is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SKIPPING = """
import pytest

@pytest.mark.browser
def test_page():
    pytest.skip("no Chromium")
"""


@pytest.mark.parametrize(
    ("required", "exit_code"), [({}, 0), ({"EDGEBENCH_REQUIRE_BROWSER": "1"}, 1)]
)
def test_a_required_browser_test_may_not_skip(
    required: dict[str, str],
    exit_code: int,
    root: Path,
    tmp_path: Path,
    house_environment: dict[str, str],
) -> None:
    (tmp_path / "test_page.py").write_text(SKIPPING)
    (tmp_path / "conftest.py").write_text((root / "tests" / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    browser: needs Chromium\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**house_environment, **required},
        timeout=60,
        check=False,
    )
    assert done.returncode == exit_code, done.stdout
