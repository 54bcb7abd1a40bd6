"""`wake` with its smallest subnet, untrained, and a few scenes: made anew, never shipped."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from edgebench.images.prepared import PreparedImages
from edgebench.prepare import prepare
from edgebench.progress import SilentProgress
from edgebench.transform import parse_transform
from edgebench_workloads import pin
from edgebench_workloads.catalog import WORKLOADS, Workload
from edgebench_workloads.wake import dataset, export, train
from edgebench_workloads.wake.genome import SMALLEST
from edgebench_workloads.wake.supernet import Supernet

SCORED, CALIBRATION = 64, 16


def shrink_sets() -> None:
    """Make the sets of this process small."""
    dataset.SCORED_COUNT, dataset.CALIBRATION_COUNT = SCORED, CALIBRATION


def make_tiny(root: Path, *, bias: float = 0.0) -> Workload:
    """Write the workload below `root`; the sets must be small already.

    A classifier of a large bias answers every image alike, however it is rounded.
    """
    batches = train.CALIBRATION_BATCHES
    shipped = WORKLOADS["wake"]
    workload = replace(shipped, root=root)
    workload.folder.mkdir(parents=True)
    shutil.copy(shipped.folder / "task.toml", workload.folder)
    torch.manual_seed(7)
    net = Supernet()
    with torch.no_grad():
        net.classifier.weight.mul_(20)
        net.classifier.bias.copy_(torch.tensor([0.0, bias]))
    try:
        train.CALIBRATION_BATCHES = 1
        export.export(net, workload.folder, SMALLEST)
    finally:
        train.CALIBRATION_BATCHES = batches
    pin.rewrite(workload.folder / "task.toml", "data", pin.data_values(workload))
    pin.pin_models([workload])
    return workload


def made(chain: str) -> PreparedImages:
    """The catalog's `wake` after these transforms."""
    found = prepare("wake", parse_transform(chain), SilentProgress())
    assert isinstance(found, PreparedImages)
    return found
