"""Bounds on paper: bytes over bandwidth or operations over peak, whichever takes longer."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgebench.cli import main
from edgebench.device_catalog import DEVICES
from edgebench.errors import SpecError
from edgebench.paper import (
    BYTES_PER_WEIGHT,
    EstimateOptions,
    bound_of,
    count_weights,
    estimate_command,
    model_on_paper,
)
from edgebench.roofline import Model
from edgebench_workloads.catalog import WORKLOADS

ORIN = DEVICES["orin"]
MODEL = Model(body_weights=900_000_000, head_weights=124_000_000)
CONFIG = {
    "hidden_size": 8,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}


def test_one_token_is_bound_by_memory() -> None:
    bound = bound_of(ORIN, MODEL, "fp16")
    assert bound.bound == "memory"
    assert bound.step_s == pytest.approx(1.024e9 * 2 / 204.8e9)
    assert bound.tokens_per_s == pytest.approx(100.0)
    assert bound.compute_s == pytest.approx(2 * 1.024e9 / (16 * 1.3e9 * 2048))


def test_int4_reads_codes_scales_and_zero_points() -> None:
    assert BYTES_PER_WEIGHT["int4"] == pytest.approx(0.5 + 3 / 128)
    fp16, int4 = (bound_of(ORIN, MODEL, kernel) for kernel in ("fp16", "int4"))
    assert fp16.step_s / int4.step_s == pytest.approx(2 / (0.5 + 3 / 128))


def test_a_large_batch_is_bound_by_compute() -> None:
    bound = bound_of(ORIN, MODEL, "int4", batch=512)
    assert bound.bound == "compute"
    assert bound.tokens_per_s == pytest.approx(512 / (bound.compute_s or 0))


def test_a_lower_clock_moves_compute_alone() -> None:
    full, capped = (bound_of(ORIN, MODEL, "int4", clock_GHz=clock) for clock in (None, 0.65))
    assert capped.memory_s == full.memory_s
    assert capped.compute_s == pytest.approx(2 * (full.compute_s or 0))


def test_a_super_mode_has_its_own_clock_and_bandwidth() -> None:
    faster = DEVICES["orin-nano"].in_super_mode()
    assert faster is not None
    assert bound_of(faster, MODEL, "fp16").memory_s == pytest.approx(1.024e9 * 2 / 102e9)
    assert bound_of(faster, MODEL, "fp16").clock_GHz == 1.02


def test_without_a_published_peak_memory_alone_bounds() -> None:
    bound = bound_of(DEVICES["apple-m4"], MODEL, "fp16", batch=10_000)
    assert (bound.compute_s, bound.bound) == (None, "memory")


def test_without_a_published_bandwidth_there_is_no_bound() -> None:
    with pytest.raises(SpecError, match="measure it instead"):
        bound_of(DEVICES["cpu"], MODEL, "fp16")


def test_weights_are_counted_from_the_config() -> None:
    # q and o: 8 x 8; k and v: 8 x 4; three of 8 x 20; three layers; the head 50 x 8.
    assert count_weights(CONFIG) == Model(body_weights=3 * (128 + 64 + 480), head_weights=400)


@pytest.mark.parametrize("name", ["assistant", "assistant@300m", "assistant@1b"])
def test_the_count_is_what_the_reference_weighs(name: str) -> None:
    model = model_on_paper(name)
    weights = model.body_weights + model.head_weights
    # Embeddings, norms and the file's header are all that a checkpoint holds beside.
    assert 0.93 < 2 * weights / WORKLOADS[name].reference_size_bytes < 1.0


@pytest.mark.parametrize("device", [name for name, row in DEVICES.items() if row.bandwidth_GBps])
def test_every_device_with_a_bandwidth_has_a_bound(device: str) -> None:
    text = estimate_command(EstimateOptions(device=device), "md")
    assert "a bound on paper, not a measurement" in text
    assert text.count("| memory |") == 2
    assert "bandwidth: " in text


def test_the_command_prints_json() -> None:
    words = ["estimate", "--device", "orin", "--workload", "assistant@1b", "--kernel", "int4"]
    said = CliRunner().invoke(main, [*words, "--format", "json"])
    assert said.exit_code == 0, said.output
    (bound,) = json.loads(said.output)
    assert bound["kernel"] == "int4"
    assert bound["is_measured"] is False
    assert bound["tokens_per_s"] == pytest.approx(1 / bound["step_s"])


@pytest.mark.parametrize(
    "options",
    [
        {"device": "orn"},
        {"device": "orin", "workload": "asistant"},
        {"device": "orin", "workload": "wake"},
        {"device": "orin", "kernel": "int8"},
        {"device": "orin", "kernel": ","},
        {"device": "orin", "super_mode": True},
    ],
)
def test_what_is_not_known_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=r"\[estimate\] expected"):
        estimate_command(EstimateOptions(**options), "md")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="format"):
        estimate_command(EstimateOptions(device="orin"), "xml")
