"""The pages show what the submissions hold: their tables are written from them."""

import importlib.util
from pathlib import Path


def test_result_tables_are_the_submissions(root: Path) -> None:
    spec = importlib.util.spec_from_file_location("results", root / "docs" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    results = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(results)
    pages = {"README.md": results.results_markdown, "docs/open-track.md": results.open_markdown}
    for name, table in pages.items():
        shown = (root / name).read_text().split(results.BEGIN + "\n")[1].split(results.END)[0]
        assert shown == table(root / "submissions"), "run: python docs/results.py"
        assert "**" in shown, f"the table of {name} shows no speedup"
    stages = (root / "docs" / "open-track.md").read_text().split(results.CODED_BEGIN + "\n")[1]
    assert stages.split(results.CODED_END)[0] == results.coded_markdown(root / "submissions")
