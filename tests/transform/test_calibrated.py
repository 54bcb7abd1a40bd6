"""The driver: layers quantized one by one, what stays outside the codes, its ledger and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from edgebench.errors import SpecError
from edgebench.transform import PARAMETERS, TRANSFORMS, apply_transform, parse_transform
from edgebench.transform.awq import Awq
from edgebench.transform.calibrated import Method, Outcome, quantize
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.gptq import Gptq
from edgebench.transform.grid import GridForm
from edgebench.transform.quantized import (
    Folded,
    QuantizedModel,
    ReferenceLinears,
    folded_hashes,
    folded_sha256,
    model_sha256,
    open_reference,
)
from edgebench.transform.smoothquant import SmoothQuant
from edgebench.transform.steps import DEFAULTS
from edgebench_kernels.engine import (
    RegimeChoice,
    build_fp16,
    load_reference,
    weights_from_tensors,
    with_norms,
)
from edgebench_kernels.formats import dequantize
from edgebench_kernels.quantize import quantize_rtn
from tests.transform.conftest import write_checkpoint

pytestmark = pytest.mark.torch

CHAINS = (
    "awq:group=32,samples=12",
    "gptq:group=32,samples=12",
    "awq:group=32,samples=12+gptq",
    "smoothquant:group=32,samples=12",
    "smoothquant:group=32,samples=12+gptq:damping=0.05",
)


def transformed(
    chain: str, reference: ReferenceLinears, calibration: CalibrationSet
) -> QuantizedModel:
    return apply_transform(parse_transform(chain), reference, calibration=calibration)


def logits(directory: Path, outcome: Outcome | None, ids: list[int]) -> torch.Tensor:
    """Logits [T, V] of the reference, or of what its codes and norms stand for."""
    weights = load_reference(directory)
    if outcome is not None:
        weights = with_norms(weights, outcome.norms)
        tensors = dict(weights.tensors)
        for name, tensor in outcome.tensors.items():
            tensors[f"{name}.weight"] = torch.from_numpy(dequantize(tensor))
        weights = weights_from_tensors(weights.config, tensors)
    engine = build_fp16(weights, RegimeChoice.uniform("fp32"), ops="torch")
    return engine.forward_all(torch.tensor([ids]), [len(ids)])[0]


def error(directory: Path, outcome: Outcome) -> float:
    """Mean squared difference of the logits on tokens that calibration did not see."""
    total = 0.0
    for seed in range(6):
        ids = np.random.default_rng(100 + seed).integers(0, 50, 20).tolist()
        change = logits(directory, outcome, ids) - logits(directory, None, ids)
        total += float(change.square().mean())
    return total


def test_without_methods_it_is_round_to_nearest(
    reference: ReferenceLinears, calibration: CalibrationSet
) -> None:
    form = GridForm(group=32)
    outcome = quantize(reference, calibration.sequences, Method(form=form))
    assert outcome.tensors.keys() == set(reference.names)
    for name, tensor in outcome.tensors.items():
        assert np.array_equal(tensor.qweight, quantize_rtn(reference.weight(name), 32).qweight), (
            name
        )
    assert not outcome.norms
    assert not outcome.scales


@pytest.mark.parametrize("size", [32, None])
@pytest.mark.parametrize("bits", [3, 4])
def test_each_method_is_nearer_to_the_reference_than_rounding(
    reference: ReferenceLinears, calibration: CalibrationSet, bits: int, size: int | None
) -> None:
    form = GridForm(group=size, bits=bits)
    found = {
        name: error(reference.path.parent, quantize(reference, calibration.sequences, method))
        for name, method in {
            "rtn": Method(form=form),
            "awq": Method(form=form, smoother=Awq()),
            "gptq": Method(form=form, rounder=Gptq()),
            "awq+gptq": Method(form=form, smoother=Awq(), rounder=Gptq()),
        }.items()
    }
    assert max(found["awq"], found["gptq"], found["awq+gptq"]) < found["rtn"]


@pytest.mark.parametrize("smoother", [Awq(), SmoothQuant()])
def test_what_is_folded_can_be_computed_again(
    reference: ReferenceLinears, calibration: CalibrationSet, smoother: Awq | SmoothQuant
) -> None:
    """The scales of a norm are the reference's weight over the folded one, to float32."""
    method = Method(form=GridForm(group=32), smoother=smoother)
    outcome = quantize(reference, calibration.sequences, method)
    tensors = load_file(reference.path)
    assert len(outcome.norms) == 5  # two layers of two, and the last
    for name, norm in outcome.norms.items():
        ratio = tensors[f"{name}.weight"].astype(np.float32) / norm.astype(np.float32)
        assert np.array_equal(ratio, outcome.scales[name])
        assert 0 <= outcome.exponents[name] <= 1
    linears = {"awq": 4}.get(type(smoother).__name__.lower(), 0)
    assert len(outcome.scales) == 5 + linears


@pytest.mark.parametrize("chain", CHAINS)
def test_the_same_bits_twice_on_any_threads(
    chain: str, reference: ReferenceLinears, calibration: CalibrationSet
) -> None:
    first = transformed(chain, reference, calibration)
    torch.set_num_threads(2)
    second = transformed(chain, reference, calibration)
    assert first.steps == second.steps
    assert folded_hashes(first.folded) == folded_hashes(second.folded)


@pytest.mark.parametrize("chain", CHAINS)
def test_the_ledger_tells_what_was_done(
    chain: str, reference: ReferenceLinears, calibration: CalibrationSet
) -> None:
    model = transformed(chain, reference, calibration)
    names = parse_transform(chain).names
    assert tuple(step.transform for step in model.steps) == names
    assert model.steps[0].before_sha256 == reference.sha256
    assert model.steps[-1].after_sha256 == model_sha256(model.tensors, model.folded)
    for step in model.steps:
        assert step.calibration_sha256 == calibration.sha256
        shared = {"bits": 4, "group": 32, "symmetric": False, "samples": 12}
        assert shared.items() <= step.parameters.items()
        assert step.parameters.keys() == {"bits", *PARAMETERS[step.transform]}
    if len(names) == 2:
        assert model.steps[0].after_sha256 == folded_sha256(model.folded)
        assert model.steps[1].before_sha256 == model.steps[0].after_sha256
    smooths = TRANSFORMS[names[0]] == "smooth"
    assert bool(model.folded.norms) == bool(model.steps[0].choices) == smooths


def test_a_searched_alpha_is_written_as_such(
    reference: ReferenceLinears, calibration: CalibrationSet
) -> None:
    searched = transformed("smoothquant:samples=4", reference, calibration)
    assert searched.steps[0].parameters["alpha"] == "searched"
    given = transformed("smoothquant:samples=4,alpha=0.5", reference, calibration)
    assert given.steps[0].parameters["alpha"] == 0.5
    assert set(given.steps[0].choices.values()) == {0.5}


def test_other_calibration_data_give_other_scales(
    reference: ReferenceLinears, calibration: CalibrationSet
) -> None:
    all_of_them = transformed("awq:samples=12", reference, calibration)
    fewer = transformed("awq:samples=2", reference, calibration)
    assert folded_sha256(all_of_them.folded) != folded_sha256(fewer.folded)


@pytest.mark.parametrize("changes", [{"tie_word_embeddings": True}, {"num_key_value_heads": 4}])
def test_other_shapes(
    tmp_path: Path, calibration: CalibrationSet, changes: dict[str, object]
) -> None:
    reference = write_checkpoint(tmp_path, **changes)
    form = GridForm(group=32)
    plain = quantize(reference, calibration.sequences, Method(form=form))
    method = Method(form=form, smoother=Awq(), rounder=Gptq())
    outcome = quantize(reference, calibration.sequences, method)
    assert outcome.tensors.keys() == plain.tensors.keys() == {*reference.names, "lm_head"}
    if "tie_word_embeddings" not in changes:
        assert error(tmp_path, outcome) < error(tmp_path, plain)


def test_fused_projections_become_the_same_codes(
    reference: ReferenceLinears, calibration: CalibrationSet, tmp_path: Path
) -> None:
    """q over k over v, gate over up: the same rows, one behind the other."""
    method = Method(form=GridForm(group=32), smoother=Awq(), rounder=Gptq())
    apart = quantize(reference, calibration.sequences, method)
    tensors = load_file(reference.path)
    fused = {"self_attn.qkv_proj": "qkv", "mlp.gate_up_proj": ("gate", "up")}
    for layer in ("model.layers.0.", "model.layers.1."):
        for name, parts in fused.items():
            room = layer + name.partition(".")[0]
            own = [f"{room}.{part}_proj" for part in parts]
            whole = np.concatenate([tensors.pop(f"{part}.weight") for part in own])
            tensors[f"{layer}{name}.weight"] = whole
    save_file(tensors, tmp_path / "model.safetensors")
    joined = quantize(open_reference(reference.path, "0" * 64), calibration.sequences, method)
    for layer in ("model.layers.0.", "model.layers.1."):
        for name, parts in fused.items():
            room = layer + name.partition(".")[0]
            rows = [apart.tensors[f"{room}.{part}_proj"].qweight for part in parts]
            assert np.array_equal(joined.tensors[layer + name].qweight, np.concatenate(rows))
    assert joined.scales.keys() == apart.scales.keys()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
@pytest.mark.parametrize("smoother", [Awq(), SmoothQuant(), None])
def test_a_gpu_computes_the_same_method(
    reference: ReferenceLinears, calibration: CalibrationSet, smoother: Awq | SmoothQuant | None
) -> None:
    """Sums are added in another order there, so codes may differ and errors hardly do."""
    method = Method(form=GridForm(group=32), smoother=smoother, rounder=Gptq())
    on_cpu = quantize(reference, calibration.sequences, method)
    on_gpu = quantize(reference, calibration.sequences, method, device="cuda")
    assert on_gpu.exponents == on_cpu.exponents
    plain = quantize(reference, calibration.sequences, Method(form=GridForm(group=32)))
    folder = reference.path.parent
    assert error(folder, on_gpu) == pytest.approx(error(folder, on_cpu), rel=0.2)
    assert error(folder, on_gpu) < error(folder, plain)


def test_progress_reaches_its_end(reference: ReferenceLinears, calibration: CalibrationSet) -> None:
    for chain in CHAINS:
        seen: list[tuple[int, int]] = []
        apply_transform(
            parse_transform(chain),
            reference,
            lambda *step, seen=seen: seen.append(step),
            calibration=calibration,
        )
        total = seen[0][1]
        assert seen == [(done, total) for done in range(1, total + 1)]


def test_a_weight_that_is_not_finite_is_named(
    reference: ReferenceLinears, calibration: CalibrationSet, tmp_path: Path
) -> None:
    tensors = load_file(reference.path)
    tensors["model.layers.1.mlp.up_proj.weight"][2, 3] = np.nan
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(SpecError, match=r"finite weights in model\.layers\.1\.mlp\.up_proj"):
        transformed("awq:samples=4", reference, calibration)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ("awq:samples=13", r"samples to be 1\.\.12, got 13"),
        ("gptq:samples=0", r"samples to be 1\.\.12, got 0"),
        ("awq:group=48", r"group to be one of \(32, 64, 128\), got 48"),
        ("awq:group=32+gptq:group=64", "expected one group in"),
        ("gptq:damping=0", "damping to be 1e-06..1, got 0.0"),
        ("smoothquant:alpha=1.5", "alpha to be 0..1, got 1.5"),
    ],
)
def test_parameters_that_do_not_fit(
    chain: str, message: str, reference: ReferenceLinears, calibration: CalibrationSet
) -> None:
    with pytest.raises(SpecError, match=message):
        transformed(chain, reference, calibration)


def test_without_a_calibration_set(reference: ReferenceLinears) -> None:
    with pytest.raises(SpecError, match="expected a calibration set for awq, got none"):
        apply_transform(parse_transform("awq"), reference)
    with pytest.raises(SpecError, match="expected calibration sequences, got none"):
        quantize(reference, [], Method(form=GridForm()))


def test_a_model_that_is_not_llamas(
    reference: ReferenceLinears, calibration: CalibrationSet, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(SpecError, match="only model_type llama, mistral"):
        transformed("gptq", reference, calibration)


def test_the_defaults_name_every_parameter() -> None:
    for name, own in DEFAULTS.items():
        assert PARAMETERS[name].keys() == {"group", "symmetric", "samples", *own}


def test_a_norm_of_another_shape_is_refused(reference: ReferenceLinears) -> None:
    weights = load_reference(reference.path.parent)
    with pytest.raises(ValueError, match=r"expected model\.norm\.weight to be a tensor"):
        with_norms(weights, {"model.norm": np.ones(3, np.float16)})
    assert Folded().arrays() == {}
    assert open_reference(reference.path, "0" * 64) == reference
