"""Pinning writes what the catalog then verifies, and touches nothing else in `task.toml`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgebench_workloads import catalog, pin
from edgebench_workloads.errors import WorkloadAssetError, WorkloadError
from edgebench_workloads.task import load_task
from edgebench_workloads.weights import sha256_of

SHIPPED = Path(catalog.__file__).parent / "assistant" / "task.toml"


def test_pinning_a_new_model_makes_it_usable(tmp_path: Path, tiny_directory: Path) -> None:
    folder = tmp_path / "assistant"
    folder.mkdir()
    shutil.copy(SHIPPED, folder)
    shutil.copytree(tiny_directory, folder / "model")
    workload = replace(catalog.find("assistant@300m"), root=tmp_path)
    with pytest.raises(WorkloadAssetError):
        workload.reference_directory(tmp_path / "cache")
    pin.pin_models([workload], tmp_path / "cache")
    task = load_task(folder / "task.toml")
    assert task.model.sha256 == sha256_of(folder / "model" / "model.safetensors")
    assert task.model.size_bytes == (folder / "model" / "model.safetensors").stat().st_size
    directory = workload.reference_directory(tmp_path / "cache")
    assert sha256_of(directory / "model.safetensors") == task.variants["300m"].sha256
    assert task.variants["1b"] == load_task(SHIPPED).variants["1b"]


def test_rewriting_keeps_all_else(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text('# top\na = 1\n[one]\na = "x"  \nb = 2\n\n[two]\na = "x"\n', encoding="utf-8")
    pin.rewrite(path, "two", {"a": "y"})
    pin.rewrite(path, "one", {"b": 3})
    assert path.read_text() == '# top\na = 1\n[one]\na = "x"  \nb = 3\n\n[two]\na = "y"\n'


def test_a_missing_key_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text("[one]\na = 1\n", encoding="utf-8")
    with pytest.raises(WorkloadError, match=r"table \[one\] lacks b; add them"):
        pin.rewrite(path, "one", {"a": 2, "b": 3})
    assert path.read_text() == "[one]\na = 1\n"


def test_a_missing_model_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "assistant").mkdir()
    shutil.copy(SHIPPED, tmp_path / "assistant")
    lonely = {"assistant": replace(catalog.find("assistant"), root=tmp_path)}
    monkeypatch.setattr(pin, "WORKLOADS", lonely)
    assert pin.main(["--skip-data"]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_student_is_pinned_beside_the_task(tmp_path: Path, tiny_directory: Path) -> None:
    folder = tmp_path / "assistant"
    folder.mkdir()
    shutil.copy(SHIPPED, folder)
    shutil.copytree(tiny_directory, folder / "model")
    shutil.copytree(SHIPPED.parent / "student", folder / "student")
    pin.pin_models([replace(catalog.find("assistant"), root=tmp_path)])
    workload = replace(catalog.find("assistant"), root=tmp_path)
    student = workload.student()
    assert student is not None
    assert student.weights_sha256 == sha256_of(folder / "student" / "model.safetensors")
    assert (folder / "student.toml").read_text() == (SHIPPED.parent / "student.toml").read_text()
    assert replace(workload, variant_name="300m").student() is None
    (folder / "student" / "config.json").write_text("{}")
    with pytest.raises(WorkloadAssetError, match=r"config\.json\] expected sha256"):
        workload.student()


def test_a_student_too_large_to_ship_is_not_pinned(
    tmp_path: Path, tiny_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "assistant"
    folder.mkdir()
    shutil.copy(SHIPPED, folder)
    shutil.copytree(tiny_directory, folder / "model")
    shutil.copytree(SHIPPED.parent / "student", folder / "student")
    monkeypatch.setattr(pin.students, "MAX_SIZE_BYTES", 1000)
    with pytest.raises(WorkloadError, match="at most 1000 bytes to ship"):
        pin.pin_models([replace(catalog.find("assistant"), root=tmp_path)])
    assert not (folder / "student.toml").exists()
