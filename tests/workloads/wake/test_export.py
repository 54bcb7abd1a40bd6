"""What ships: a supernet in fp16, and a reference that anybody can cut from it again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgebench_workloads import pin
from edgebench_workloads.catalog import WORKLOADS, Workload
from edgebench_workloads.errors import WorkloadAssetError
from edgebench_workloads.wake import dataset, export, subnet, train
from edgebench_workloads.wake.genome import LARGEST, SMALLEST
from edgebench_workloads.wake.scenes import scenes
from edgebench_workloads.wake.supernet import Supernet

pytestmark = pytest.mark.torch


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workload:
    """The smallest subnet of an untrained supernet, exported from a checkpoint and pinned."""
    monkeypatch.setattr(train, "CALIBRATION_BATCHES", 1)
    torch.manual_seed(5)
    torch.save({"net": Supernet().state_dict()}, tmp_path / "checkpoint.pt")
    workload = replace(WORKLOADS["wake"], root=tmp_path)
    workload.folder.mkdir()
    shutil.copy(WORKLOADS["wake"].folder / "task.toml", workload.folder)
    size = export.export(
        export.load_checkpoint(tmp_path / "checkpoint.pt"), workload.folder, SMALLEST
    )
    assert size <= export.MAX_BYTES
    pin.pin_models([workload])
    return workload


def test_the_reference_is_cut_again_bit_for_bit(shipped: Workload) -> None:
    directory = shipped.reference_directory()
    assert shipped.task.model.tokenizer_sha256 is None
    net = export.read_supernet(directory / export.SUPERNET)
    cut = export.cut_reference(net, SMALLEST)
    found = load_file(directory / subnet.WEIGHTS)
    assert found.keys() == cut.keys()
    assert all(torch.equal(found[name], each.half()) for name, each in cut.items())
    assert 0.0 <= export.top1(directory, list(scenes("scored", 128))) <= 1.0


@pytest.mark.parametrize("name", [export.SUPERNET, subnet.WEIGHTS, subnet.CONFIG])
def test_a_changed_file_is_noticed(shipped: Workload, name: str) -> None:
    path = shipped.folder / "model" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(WorkloadAssetError, match="expected"):
        shipped.reference_directory()


def test_what_is_too_large_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "CALIBRATION_BATCHES", 1)
    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="expected at most 1000 bytes"):
        export.export(Supernet(), tmp_path, SMALLEST)


def test_another_networks_supernet_is_refused(shipped: Workload) -> None:
    with pytest.raises(ValueError, match="expected the supernet's tensors"):
        export.read_supernet(shipped.folder / "model" / subnet.WEIGHTS)


def test_one_command_ships_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workload = replace(WORKLOADS["wake"], root=tmp_path)
    workload.folder.mkdir()
    shutil.copy(WORKLOADS["wake"].folder / "task.toml", workload.folder)
    monkeypatch.setattr(train, "CALIBRATION_BATCHES", 1)
    monkeypatch.setattr(dataset, "SCORED_COUNT", 8)
    monkeypatch.setitem(WORKLOADS, "wake", workload)  # type: ignore[arg-type]
    checkpoint = tmp_path / "checkpoint.pt"
    torch.save({"net": Supernet().state_dict()}, checkpoint)
    (tmp_path / export.CURVE).write_text("[]\n")
    assert export.main(["--checkpoint", str(checkpoint)]) == 0
    assert "top-1 on the scored set" in capsys.readouterr().out
    assert subnet.read(workload.reference_directory())[0] == LARGEST
    assert (workload.folder / export.CURVE).read_text() == "[]\n"
    with pytest.raises(SystemExit):
        export.main(["--checkpoint", str(tmp_path / "none.pt")])
    assert "expected a checkpoint of train.py" in capsys.readouterr().err


def test_a_supernet_is_judged_without_being_shipped(
    shipped: Workload, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "scored_pairs", lambda: list(scenes("training", 8)))
    supernet = shipped.folder / "model" / export.SUPERNET
    assert export.main(["--judge", str(supernet)]) == 0
    largest, smallest = capsys.readouterr().out.splitlines()
    right = [
        f"{name}: top-1 on the scored set {count / 8:.4f}"
        for name in ("largest", "smallest")
        for count in range(9)
    ]
    assert largest in right[:9]
    assert smallest in right[9:]
    with pytest.raises(SystemExit, match="2"):
        export.main(["--judge", str(supernet.with_name("none"))])
