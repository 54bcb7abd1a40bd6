"""Ships a trained supernet: rounds it to fp16, cuts the reference from it and pins both.

    python -m edgebench_workloads.wake.export --checkpoint OUT/checkpoint.pt
    python -m edgebench_workloads.wake.export --judge SUPERNET.safetensors

The second writes nothing: it says how good the largest and the smallest subnet of a supernet are.

The reference is the largest subnet, its norms calibrated on training scenes and folded. It is cut
from the supernet as shipped, in fp16, so that anybody can cut it again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from edgebench_workloads import pin
from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.wake import subnet
from edgebench_workloads.wake.dataset import scored_pairs
from edgebench_workloads.wake.genome import LARGEST, SMALLEST, Genome
from edgebench_workloads.wake.images import resized, tensors
from edgebench_workloads.wake.scenes import Scene
from edgebench_workloads.wake.supernet import Supernet, calibrate
from edgebench_workloads.wake.train import calibration_images

SUPERNET = "supernet.safetensors"
MAX_BYTES = 6 << 20  # of the supernet and the reference together
CURVE = "learning_curve.json"


def load_checkpoint(path: Path) -> Supernet:
    """The supernet of a training checkpoint, its parameters rounded to fp16."""
    net = Supernet()
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["net"])
    return _rounded(net)


def read_supernet(path: Path) -> Supernet:
    """The supernet as shipped; ValueError for another's tensors."""
    net = Supernet()
    try:
        net.load_state_dict({name: each.float() for name, each in load_file(path).items()})
    except RuntimeError as err:
        raise ValueError(f"[wake] expected the supernet's tensors in {path}: {err}") from err
    return net


def _rounded(net: Supernet) -> Supernet:
    net.load_state_dict({name: each.half().float() for name, each in net.state_dict().items()})
    return net


def write_supernet(net: Supernet, path: Path) -> None:
    """Write every parameter in fp16."""
    half = {name: each.half().contiguous() for name, each in net.state_dict().items()}
    save_file(half, path)


def cut_reference(net: Supernet, genome: Genome = LARGEST) -> dict[str, torch.Tensor]:
    """One subnet's tensors, its norms calibrated on training scenes."""
    calibrate(net, genome, calibration_images(genome.resolution))
    return subnet.cut(net, genome)


def top1(folder: Path, scenes: list[Scene]) -> float:
    """The share of right answers of a shipped subnet, in fp32 arithmetic."""
    genome, weights = subnet.read(folder)
    run = subnet.convolution(weights)
    images, answers = tensors(scenes)
    right = 0
    with torch.inference_mode():
        for part, own in zip(images.split(64), answers.split(64), strict=True):
            logits = subnet.forward(genome, run, resized(part, genome.resolution))
            right += int((logits.argmax(1) == own).sum())
    return right / len(answers)


def export(net: Supernet, folder: Path, genome: Genome = LARGEST) -> int:
    """Write supernet and reference into a workload's folder; returns their bytes.

    Raises ValueError where they are larger than what is shipped.
    """
    shutil.rmtree(folder / "model", ignore_errors=True)
    subnet.write(folder / "model", genome, cut_reference(net, genome))
    write_supernet(net, folder / "model" / SUPERNET)
    size = sum((folder / "model" / name).stat().st_size for name in (SUPERNET, subnet.WEIGHTS))
    if size > MAX_BYTES:
        raise ValueError(f"[wake/export] expected at most {MAX_BYTES} bytes, got {size}")
    return size


def judge(supernet: Path) -> int:
    """Print the top-1 on the scored set of a supernet's largest and smallest subnet."""
    net, scored = read_supernet(supernet), scored_pairs()
    with TemporaryDirectory() as folder:
        for name, genome in (("largest", LARGEST), ("smallest", SMALLEST)):
            subnet.write(Path(folder) / name, genome, cut_reference(net, genome))
            print(f"{name}: top-1 on the scored set {top1(Path(folder) / name, scored):.4f}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Export, pin, and say how good the reference is on the scored set."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="export it, and pin every hash")
    what.add_argument("--judge", type=Path, help="say how good a supernet is, and write nothing")
    options = parser.parse_args(arguments)
    if options.judge is not None:
        if not options.judge.is_file():
            parser.error(f"expected a supernet in fp16, got {options.judge}")
        return judge(options.judge)
    if not options.checkpoint.is_file():
        parser.error(f"expected a checkpoint of train.py, got {options.checkpoint}")
    workload = WORKLOADS["wake"]
    size = export(load_checkpoint(options.checkpoint), workload.folder)
    curve = options.checkpoint.with_name(CURVE)
    if curve.is_file():
        shutil.copyfile(curve, workload.folder / CURVE)
    pin.pin_models([workload])
    share = top1(workload.folder / "model", scored_pairs())
    print(f"{size} bytes; top-1 on the scored set {share:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
