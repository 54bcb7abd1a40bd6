"""Networks of a width multiplier: their layers, their weights, how they run and train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from edgebench_workloads.wake import train_scaled  # noqa: E402
from edgebench_workloads.wake.genome import LARGEST, STAGE_CHANNELS, layers  # noqa: E402
from edgebench_workloads.wake.scaled import (  # noqa: E402
    ScaledNet,
    channels,
    genome_at,
    scaled_layers,
    scaled_multiply,
    sliced,
)
from edgebench_workloads.wake.subnet import convolution, cut, forward  # noqa: E402
from edgebench_workloads.wake.supernet import Supernet, calibrate  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("count", [8, 192, *STAGE_CHANNELS])
def test_channels_are_near_the_share_and_even_to_vectors(count: int) -> None:
    for width in (0.25, 0.35, 0.5, 0.75):
        own = channels(count, width)
        assert own % 4 == 0
        assert own >= 0.9 * width * count
        assert own <= max(4, width * count + 4)
    assert channels(count, 1.0) == count


def test_the_whole_width_is_the_largest_subnet() -> None:
    assert scaled_layers(1.0, 96) == layers(LARGEST)


def test_a_cut_network_runs_as_the_module_does() -> None:
    torch.manual_seed(1)
    net, genome = ScaledNet(0.5), genome_at(64)
    images = torch.randn(4, 1, 64, 64)
    calibrate(net, genome, [images])
    weights = cut(net, genome)
    shapes = {f"{one.name}.weight": one.outputs for one in scaled_layers(0.5, 64)}
    assert {name: len(weights[name]) for name in shapes} == shapes
    run = scaled_multiply(convolution(weights), 0.5, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            forward(genome, run, images), net(images, genome), rtol=1e-3, atol=1e-3
        )


def test_a_slice_of_the_whole_width_is_the_supernet() -> None:
    torch.manual_seed(2)
    net = Supernet()
    same = sliced(net, 1.0)
    images = torch.randn(2, 1, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(same(images, LARGEST), net(images, LARGEST))


def test_training_goes_on_and_is_counted(tmp_path: Path) -> None:
    usual = train_scaled.Settings(out=tmp_path, widths="0.25", batch=4, steps=2)
    threads = torch.get_num_threads()
    try:
        train_scaled.train(replace(usual, stop_after=1))
        with pytest.raises(ValueError, match=r"expected 2 steps in .*, got 1; go on training"):
            train_scaled.trained(tmp_path)
        train_scaled.train(replace(usual, resume=True))
    finally:
        torch.set_num_threads(threads)
    assert set(train_scaled.trained(tmp_path)) == {0.25}
    took = train_scaled.training_cost(tmp_path)
    assert (took["step"], took["examples"]) == (2, 8)
    assert took["cpu_minutes"] >= 0
    assert took["width-0.25"] == pytest.approx(took["loss"], abs=1e-4)
    with pytest.raises(ValueError, match=r"expected width-0.5 in the checkpoint"):
        train_scaled.start_run(replace(usual, resume=True, widths="0.25,0.5"))
    with pytest.raises(ValueError, match="expected a checkpoint of 3 steps, got one of 2"):
        train_scaled.start_run(replace(usual, resume=True, steps=3))
