"""The README shows what the submissions hold: its table is written from them."""

import importlib.util
from pathlib import Path


def test_results_table_is_the_submissions(root: Path) -> None:
    spec = importlib.util.spec_from_file_location("results", root / "docs" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    shown = (root / "README.md").read_text().split(results.BEGIN + "\n")[1].split(results.END)[0]
    assert shown == results.results_markdown(root / "submissions"), "run: python docs/results.py"
    assert "**" in shown, "the table shows no speedup"
