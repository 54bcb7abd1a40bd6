"""The open track's model: kept by its recipe, smaller on disk, and zeros that stay zero."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgebench.errors import RunFailed, SpecError
from edgebench.open_model import count_int4, describe, kept_shapes, pattern_of
from edgebench.transform import changed, parse_transform
from edgebench.transform.changed import ChangedModel, changed_once
from edgebench_kernels.engine import RegimeChoice, build_fp16, build_int4, load_reference
from edgebench_kernels.formats import dequantize
from tests.harness.checker.tiny_llama import TinyWorld
from tests.harness.checker.tiny_open import changed_model, quantized_model, source_of

pytestmark = pytest.mark.torch

CUTS = "prune:heads=0.5+prune:units=0.333333333+prune:layers=1"
ROUNDINGS = (
    "rtn:group=32",
    "rtn:group=32,symmetric=true",
    "awq:group=32,samples=12",
    "smoothquant:samples=12",
    "gptq:group=32,samples=12",
    "awq:group=32,samples=12+gptq",
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyWorld:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    return TinyWorld.write(tmp_path / "world")


def test_a_cut_model_is_a_checkpoint_of_its_own(world: TinyWorld) -> None:
    made = changed_model(world, CUTS)
    config = json.loads((made.directory / "config.json").read_text())
    names = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
    assert [config[name] for name in names] == [1, 2, 1, 16]
    assert config["intermediate_size"] == 64
    weights = made.directory / "model.safetensors"
    assert weights.stat().st_size < 0.6 * world.reference.path.stat().st_size
    assert [step.transform for step in made.made.steps] == ["prune"] * 3
    assert made.made.steps[0].before_sha256 == "a" * 64
    assert made.made.steps[1].before_sha256 == made.made.steps[0].after_sha256


def test_a_cut_model_is_what_transformers_computes(world: TinyWorld) -> None:
    """float32 of the same weights: sums in another order, to 1e-4 of the largest logit."""
    transformers = pytest.importorskip("transformers")
    made = changed_model(world, CUTS)
    ids = [5, 9, 17, 3, 11, 2, 40]
    other = transformers.AutoModelForCausalLM.from_pretrained(made.directory, dtype=torch.float32)
    with torch.no_grad():
        expected = other.eval()(torch.tensor([ids])).logits[0].numpy()
    weights = load_reference(made.directory)
    engine = build_fp16(weights, RegimeChoice.uniform("fp32"), max_length=len(ids), ops="torch")
    came = engine.forward_all(torch.tensor([ids]), [len(ids)])[0].numpy()
    assert np.abs(came - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.native
def test_a_cut_model_runs_through_the_int4_kernels(world: TinyWorld) -> None:
    """int4 against the dequantized weights in fp32; activations in 16 bits cost under 1 %."""
    made = changed_model(world, CUTS)
    quantized = quantized_model(world, made, f"{CUTS}+rtn:group=32")
    weights = load_reference(made.directory)
    ids = torch.tensor([[5, 9, 17, 3, 11, 2, 40]])
    int4 = build_int4(weights, quantized.tensors, "w4a16", max_length=7)
    plain = {
        f"{name}.weight": torch.from_numpy(dequantize(tensor)).half()
        for name, tensor in quantized.tensors.items()
    }
    exact = build_fp16(
        replace(weights, tensors={**weights.tensors, **plain}),
        RegimeChoice.uniform("fp32"),
        max_length=7,
        ops="torch",
    )
    came, expected = (e.forward_all(ids, [7])[0].numpy() for e in (int4, exact))
    assert np.abs(came - expected).max() <= 0.01 * np.abs(expected).max()


def test_a_model_is_made_once(world: TinyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    first = changed_model(world, "prune:wanda=2:4")

    def never(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(changed, "_make", never)
    again = changed_model(world, "prune:wanda=2:4")
    assert (again.directory, again.made) == (first.directory, first.made)
    with pytest.raises(AssertionError, match="made again"):
        changed_model(world, "prune:wanda=4:8")


def test_a_damaged_model_is_made_again(world: TinyWorld) -> None:
    first = changed_model(world, "prune:wanda=2:4")
    path = first.directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    again = changed_model(world, "prune:wanda=2:4")
    assert changed.arrays_sha256(again.arrays()) == first.sha256


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("step", ["prune:wanda=2:4", "prune:sparsegpt=4:8"])
def test_zeros_stay_zero_when_quantized(world: TinyWorld, step: str, rounding: str) -> None:
    made = changed_model(world, step)
    quantized = quantized_model(world, made, f"{step}+{rounding}")
    before = made.arrays()
    for name, tensor in quantized.tensors.items():
        if name.startswith("model.layers."):
            is_zero = dequantize(tensor) == 0
            assert is_zero[before[f"{name}.weight"] == 0].all(), name
            wanted = {"2:4"} if "2:4" in step else {"2:4", "4:8"}
            assert count_int4(tensor).facts.pattern in wanted, name


def test_error_feedback_would_fill_the_zeros(world: TinyWorld) -> None:
    """Why gptq is told to keep them: without that it does not."""
    from edgebench.transform import apply_transform
    from edgebench.transform.calibration import CalibrationSet
    from edgebench.transform.quantized import open_reference

    made = changed_model(world, "prune:wanda=2:4")
    reference = open_reference(made.directory / "model.safetensors", made.sha256)
    calibration = CalibrationSet(sha256="3" * 64, sequences=world.sequences)
    chain = parse_transform("gptq:group=32,samples=12")
    plain = apply_transform(chain, reference, calibration=calibration)
    patterns = {count_int4(tensor).facts.pattern for tensor in plain.tensors.values()}
    assert "2:4" not in patterns


def facts(made: ChangedModel) -> dict[str, float]:
    shape = made.shape()
    arrays = made.arrays()
    model = describe(shape, (), {n: arrays[n] for n in kept_shapes(shape, is_quantized=False)})
    return model.model_dump(
        include={"params_total", "params_nonzero", "bits_per_weight", "dense_macs_per_token"}
        | {"effective_macs_per_token", "peak_memory_bytes"}
    )


def test_the_ledger_counts_a_pruned_model(world: TinyWorld) -> None:
    """By hand: 2 layers of q 64x64, k and v 32x64, o 64x64, three of 96x64; lm_head 50x64."""
    made = changed_model(world, "prune:magnitude=2:4")
    body = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64)
    total = body + 2 * 50 * 64 + 5 * 64
    attention = 2 * 2 * 64 * 128
    cache = 2 * 2 * 2 * 32 * 128
    assert facts(made) == {
        "params_total": total,
        "params_nonzero": total - body // 2,
        "bits_per_weight": 16.0,
        "dense_macs_per_token": body + 50 * 64 + attention,
        "effective_macs_per_token": body // 2 + 50 * 64 + attention,
        "peak_memory_bytes": 2 * total + cache + 4 * (96 + 64 + 64),
    }


def test_a_pattern_is_detected_and_not_believed() -> None:
    zeros = np.zeros((4, 16), dtype=bool)
    assert pattern_of(zeros) == "dense"
    zeros[:, ::2] = True
    assert pattern_of(zeros) == "2:4"
    zeros[0, 0] = False  # one group of one row has only one zero
    assert pattern_of(zeros) == "unstructured"
    zeros[:] = [True] * 4 + [False] * 4 + [True] * 4 + [False] * 4
    assert pattern_of(zeros) == "4:8"


def test_a_step_that_does_not_fit_says_so(world: TinyWorld) -> None:
    with pytest.raises(SpecError, match="leave at least one of 2, got 2"):
        changed_model(world, "prune:layers=2")
    with pytest.raises(SpecError, match="samples to be"):
        changed_model(world, "prune:wanda=2:4,samples=1000")


def test_a_nan_ends_a_fine_tune_with_its_step(world: TinyWorld) -> None:
    """A rate of 1 drives the weights away until a loss or a weight is no number."""
    chain = parse_transform("prune:magnitude=0.5+finetune:steps=3,batch=2,rate=0.001")
    source = source_of(world)

    def poisoned(size: int, start: int) -> list[tuple[list[int], int]]:
        if start >= 2:
            with torch.no_grad():
                for model in broken:
                    model.lm_head.weight.fill_(torch.nan)
        return list(source.examples(size, start))

    from edgebench.transform import finetune

    broken: list[torch.nn.Module] = []
    real = finetune.build
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "build", lambda *own: broken.append(real(*own)) or broken[-1])
        with pytest.raises(RunFailed, match="finite loss, got nan at step 2 of 3; lower the rate"):
            changed_once(chain.changes, replace(source, examples=poisoned))
