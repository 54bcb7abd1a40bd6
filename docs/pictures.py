"""Takes README's pictures of the repository's own site, with Chromium; first `make site`.

python docs/pictures.py [SITE]    (default out/site)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--virtual-time-budget=20000",
)  # fmt: skip
SUBMISSION = "NVIDIA-H200"  # the system whose page is shown: its meter answered
WORKLOAD = "assistant@300m"


def main(site: Path) -> None:
    """Write docs/leaderboard.png and docs/submission.png."""
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        sys.exit(f"[pictures] expected one of {', '.join(PROGRAMS)}, got none; install Chromium")
    _take(program, site / "index.html", DOCS / "leaderboard.png", "1400,2300")
    _take(program, _page(site), DOCS / "submission.png", "1400,1900")


def _page(site: Path) -> Path:
    title = f"<title>{WORKLOAD} single-stream: {SUBMISSION}"
    for page in sorted((site / "run").glob("*.html")):
        if title in page.read_text(encoding="utf-8"):
            return page
    sys.exit(f"[pictures] expected a page of {WORKLOAD} on {SUBMISSION} in {site}; run `make site`")


def _take(program: str, page: Path, out: Path, size: str) -> None:
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [program, *FLAGS, f"--user-data-dir={profile}", f"--window-size={size}",
             f"--screenshot={out.resolve()}", page.resolve().as_uri()],
            check=True, capture_output=True,
        )  # fmt: skip
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/site"))
