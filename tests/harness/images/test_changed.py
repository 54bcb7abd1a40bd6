"""prune, finetune and share on the tiny `wake`: what they make, its ledger, its checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from edgebench.checker import network
from edgebench.checker.known import known_workload
from edgebench.checker.open_track import check_training
from edgebench.checker.subject import Subject
from edgebench.errors import RuleViolation, RunFailed, SpecError
from edgebench.findings import Finding
from edgebench.images import tuned
from edgebench.images.engines import CpuImageEngines
from edgebench.images.network import Network, read_network
from edgebench.images.prepared import PreparedImages
from edgebench.images.pruned import _made_up, input_norms, prune
from edgebench.images.request import cut_genome, image_steps
from edgebench.open_model import count_fp16
from edgebench.open_network import describe_network
from edgebench.record import Ledger
from edgebench.spec import RunOptions, parse_run
from edgebench.transform import parse_transform
from edgebench.transform.finetuning import read_finetune
from edgebench.transform.pruning import read_prune
from edgebench.transform.quantized import tensors_bytes
from edgebench_workloads.cache import CACHE_VARIABLE
from edgebench_workloads.catalog import Workload
from edgebench_workloads.wake.costs import total_macs
from edgebench_workloads.wake.genome import SMALLEST, layers
from edgebench_workloads.wake.scenes import scenes
from edgebench_workloads.wake.subnet import convolution, forward
from tests.harness.images.tiny_wake import made

pytestmark = [pytest.mark.torch, pytest.mark.native]

CHAIN = "prune:units=0.5,samples=8+prune:wanda=0.5,samples=8+finetune:steps=2,batch=4+share:bits=4"


@pytest.fixture(scope="module")
def quick(tiny_wake: Workload, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(cache))
        patch.setattr(tuned, "CALIBRATING", 8)
        yield cache


@pytest.fixture(scope="module")
def coded(quick: Path) -> PreparedImages:
    return made(CHAIN)


@pytest.fixture(scope="module")
def rounded(quick: Path) -> PreparedImages:
    return made("prune:magnitude=2:4+rtn")


@pytest.fixture(scope="module")
def reference(tiny_wake: Workload) -> Network:
    return read_network(tiny_wake.folder / "model")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    from edgebench.images.engine import inputs_of

    return inputs_of(list(scenes("training", 6)), SMALLEST.resolution)


def answers(of: Network, images: torch.Tensor) -> torch.Tensor:
    return forward(of.genome, convolution(of.tensors), images)


@pytest.mark.parametrize("method", ["magnitude", "wanda"])
@pytest.mark.parametrize("pattern", ["2:4", "4:8"])
def test_a_pattern_is_in_every_product_and_nowhere_else(
    reference: Network, images: torch.Tensor, method: str, pattern: str
) -> None:
    pruned = prune(reference, read_prune({method: pattern}), images)
    for layer in layers(pruned.genome):
        array = pruned.arrays()[f"{layer.name}.weight"]
        found = count_fp16(array.reshape(len(array), -1)).facts.pattern
        is_whole = layer.name in ("stem", "classifier") or layer.groups > 1
        assert found == ("dense" if is_whole else pattern), layer.name


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_a_share_of_all_is_removed(reference: Network, images: torch.Tensor, scope: str) -> None:
    request = read_prune({"magnitude": "0.3", "scope": scope})
    pruned = prune(reference, request, images)
    names = [one.name for one in layers(SMALLEST) if one.name not in ("stem", "classifier")]
    zeros = {n: float((pruned.tensors[f"{n}.weight"] == 0).float().mean()) for n in names}
    kept = torch.cat([pruned.tensors[f"{n}.weight"].flatten() for n in names])
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert all(one == pytest.approx(0.3, abs=0.02) for one in zeros.values()) == (scope == "tensor")
    assert bool((pruned.tensors["stem.weight"] != 0).all())


def test_norms_are_those_of_im2col(reference: Network) -> None:
    """Against torch's own unfold, for a depthwise layer with a stride."""
    layer = reference.layer("stages.1.0.depthwise")
    x = torch.randn(2, layer.inputs, layer.side * 2, layer.side * 2)
    columns = torch.nn.functional.unfold(x, layer.kernel, 1, layer.kernel // 2, layer.stride)
    columns = columns.view(2, layer.inputs, layer.kernel**2, -1)
    expected = columns.square().sum((0, 3)).sqrt()
    torch.testing.assert_close(input_norms(layer, x), expected)


def test_units_of_no_use_cost_nothing(reference: Network, images: torch.Tensor) -> None:
    """What is cut was silent, so that the narrower network must answer alike."""
    left = {layer.name: layer.outputs for layer in layers(cut_genome(SMALLEST, 0.5))}
    tensors = {name: one.clone() for name, one in reference.tensors.items()}
    for layer in layers(SMALLEST):
        if layer.name.endswith("depthwise"):
            cut = layer.outputs - left[layer.name]
            tensors[f"{layer.name}.weight"][:cut] = 0
            tensors[f"{layer.name}.bias"][:cut] = 0
    silent = Network(genome=SMALLEST, tensors=tensors)
    cut_off = prune(silent, read_prune({"units": 0.5, "refit": False}), images)
    assert total_macs(cut_off.genome) < 0.65 * total_macs(SMALLEST)
    torch.testing.assert_close(
        answers(cut_off, images), answers(silent, images), atol=1e-3, rtol=1e-4
    )


def test_a_refit_makes_up_for_what_went() -> None:
    """What goes is a sum of what stays, and one: weight and bias give all of it back."""
    torch.manual_seed(3)
    rows = torch.randn(500, 6)
    rows[:, 5] = rows[:, 0] - 2 * rows[:, 1] + 1
    weight, bias, keep = torch.randn(4, 6), torch.randn(4), torch.arange(6) < 5
    expected = rows @ weight.T + bias
    error = []
    for is_refit in (True, False):
        made, shift = _made_up(weight, bias, rows, keep, is_refit=is_refit)
        error.append(float((rows[:, keep] @ made.T + shift - expected).square().mean()))
    assert error[0] < 0.01 * error[1]  # but for the damping, 1 % of the mean energy


def test_recalibrated_channels_have_the_references_statistics(
    reference: Network, images: torch.Tensor
) -> None:
    pruned = prune(reference, read_prune({"magnitude": "0.5"}), images)
    found = tuned.recalibrated(pruned, reference, images)
    assert all(bool(((a != 0) <= (b != 0)).all()) for a, b in _weights(found, pruned))
    own, other = _outputs(found, images), _outputs(reference, images)
    torch.testing.assert_close(own.mean((0, 2, 3)), other.mean((0, 2, 3)), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(_outputs(pruned, images).mean((0, 2, 3)), other.mean((0, 2, 3)))


def _weights(left: Network, right: Network) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for name in left.tensors:
        if name.endswith("weight"):
            yield left.tensors[name], right.tensors[name]


def _outputs(of: Network, images: torch.Tensor) -> torch.Tensor:
    """Of the head, in front of its rectifier."""
    seen: list[torch.Tensor] = []
    run = convolution(of.tensors)

    def multiply(layer: Any, x: torch.Tensor) -> torch.Tensor:
        found = run(layer, x)
        if layer.name == "head":
            seen.append(found.clone())
        return found

    forward(of.genome, multiply, images)
    return seen[0]


def test_codebooks_learn_and_their_readers_stay(reference: Network, images: torch.Tensor) -> None:
    from edgebench.transform.sharing import shared

    tensors = {
        name: torch.from_numpy(shared(one.half().numpy(), 2)).float() if one.dim() > 1 else one
        for name, one in reference.tensors.items()
    }
    student = Network(genome=SMALLEST, tensors=tensors)
    found, cost = _taught(student, reference, images, is_shared=True, steps=3)
    assert cost.steps == 3
    for came, given in _weights(found, student):
        assert len(torch.unique(came)) <= len(torch.unique(given))
        assert not torch.equal(came, given)


def _taught(
    student: Network,
    teacher: Network,
    images: torch.Tensor,
    *,
    is_shared: bool = False,
    **asked: Any,
) -> Any:
    lesson = tuned.Lesson(
        student=student,
        teacher=teacher,
        teacher_sha256="0" * 64,
        images=lambda size, start: images[:size],
        is_shared=is_shared,
    )
    checkpoint = asked.pop("checkpoint", Path("/nonexistent/checkpoint.pt"))
    return tuned.finetune(lesson, read_finetune({"batch": 6, **asked}), checkpoint)


def test_a_fine_tune_learns_keeps_zeros_and_goes_on(
    reference: Network, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = prune(reference, read_prune({"magnitude": "0.5"}), images)
    found, cost = _taught(pruned, reference, images, steps=12, rate=1e-3)
    assert cost.last_loss < cost.first_loss
    assert all(bool(((a != 0) <= (b != 0)).all()) for a, b in _weights(found, pruned))
    monkeypatch.setattr(tuned, "STEPS_BETWEEN_CHECKPOINTS", 5)
    whole, calls = tuned._step, []

    def broken(*given: Any) -> float:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return whole(*given)

    asked = {"steps": 12, "rate": 1e-3, "checkpoint": tmp_path / "step.pt"}
    monkeypatch.setattr(tuned, "_step", broken)
    with pytest.raises(KeyboardInterrupt):
        _taught(pruned, reference, images, **asked)
    again, _ = _taught(pruned, reference, images, **asked)
    assert len(calls) == 8 + 7
    for came, expected in _weights(again, found):
        torch.testing.assert_close(came, expected)
    assert not (tmp_path / "step.pt").exists()


def test_a_loss_that_is_no_number_names_its_step(reference: Network, images: torch.Tensor) -> None:
    with pytest.raises(RunFailed, match=r"got nan at step 1 of 2; lower the rate"):
        _taught(reference, reference, images * float("nan"), steps=2)


def test_a_cut_network_is_smaller_and_runs(coded: PreparedImages) -> None:
    engines = CpuImageEngines(coded, ("fp16", "open"))
    engine = engines.for_scenario("open", "single-stream")
    assert engines.candidate_model.operations_per_token < engines.model.operations_per_token
    assert engine.cost == coded.cost("open")
    assert coded.cost("open").parameters < coded.cost("fp16").parameters
    assert coded.candidate_genome == cut_genome(SMALLEST, 0.5)


def test_found_once_is_not_made_again(
    coded: PreparedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuned, "_step", lambda *_: pytest.fail("trained again"))
    assert made(CHAIN).ledger == coded.ledger


def test_zeros_stay_zero_behind_rtn(rounded: PreparedImages) -> None:
    model = rounded.ledger.open_network
    assert model is not None
    assert model.tensors["head.weight"].pattern == "2:4"
    assert model.bits_per_weight < 16
    assert model.effective_macs_per_image < model.dense_macs_per_image
    assert rounded.coded_bytes is None


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        ("prune:sparsegpt=0.5", "expected magnitude, wanda, units for a workload of images"),
        ("prune:heads=0.5", "got heads, which knows the layers of a Llama"),
        ("prune:layers=1", "got layers"),
        ("distill", "expected a workload with a student, got one of images"),
        ("share:bits=4+rtn", "no quantizer behind share"),
        ("nas:macs=4m+prune:units=0.5", "nas alone or with rtn"),
    ],
)
def test_what_images_do_not_take_is_refused_before_any_work(chain: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        parse_run(RunOptions(track="open", workload="wake", transform=chain))
    with pytest.raises(SpecError, match=said):
        image_steps(parse_transform(chain))


def test_what_is_out_of_range_or_order_is_refused() -> None:
    for chain, said in (
        ("share:bits=9", "bits to be 1..8, got 9"),
        ("share:bits=4+prune:magnitude=0.5", "nothing but finetune behind share:bits=4"),
    ):
        with pytest.raises(SpecError, match=said):
            parse_transform(chain)
    with pytest.raises(SpecError, match="leaves fewer multiples of 8"):
        cut_genome(SMALLEST, 0.01)
    with pytest.raises(SpecError, match="expected workloads of images, got assistant"):
        parse_run(RunOptions(track="open", workload="assistant", transform="share"))
    with pytest.raises(RuleViolation, match="W-07"):
        parse_run(RunOptions(workload="wake", transform="share"))


# ------------------------------------------------------------------------------------ the checker


def findings(prepared: PreparedImages, folder: Path, **changes: Any) -> list[Finding]:
    """Of a bundle as far as the network's rules look at it."""
    save_file(changes.pop("arrays", dict(prepared.kept_arrays)), folder / "open.safetensors")
    tensors = coded_path = None
    if prepared.ledger.tensors:
        tensors = folder / "int4.safetensors"
        tensors.write_bytes(tensors_bytes(prepared.quantized.tensors))
    data = changes.pop("coded", prepared.coded_bytes)
    if data is not None:
        coded_path = folder / "coded.bin"
        coded_path.write_bytes(data)
    ledger = prepared.ledger.model_dump()
    for path, value in changes.items():
        at: Any = ledger
        *parents, last = path.split("__")
        for name in parents:
            at = at[int(name) if name.isdecimal() else name]
        at[last] = value
    bundle = SimpleNamespace(
        ledger=Ledger.model_validate(ledger),
        open_path=folder / "open.safetensors",
        tensors_path=tensors,
        coded_path=coded_path,
    )
    subject = Subject(bundle=bundle, workload=known_workload("wake"))  # type: ignore[arg-type]
    checks = (
        network.check_filed, network.check_facts, network.check_steps, network.check_coded,
        check_training,
    )  # fmt: skip
    return [found for check in checks for found in check(subject)]


def test_honest_networks_pass(
    coded: PreparedImages, rounded: PreparedImages, tmp_path: Path
) -> None:
    assert findings(coded, tmp_path) == []
    assert findings(rounded, tmp_path) == []
    reasons = coded.not_closed
    assert [one[:4] for one in reasons] == ["W-07"] * 4 + ["W-03"] * 2 + ["W-12", "W-05", "W-04"]


CASES = [
    ("O-01", {"open_network": None}, "an open_network in the ledger"),
    ("O-01", {"open_network__genome__resolution": 65}, "a genome and tensors that can be read"),
    ("O-01", {"open_network__kept": {}}, "the ledger's hash of every tensor"),
    ("O-01", {"graph_sha256": "0" * 64}, "the graph"),
    ("O-02", {"open_network__params_nonzero": 1}, "params_nonzero"),
    ("O-02", {"open_network__coded__pruned_bytes": 1}, "pruned_bytes"),
    ("O-03", {"steps__0__parameters": {"units": 0.25, "samples": 8}}, "what its steps leave"),
    ("O-03", {"steps__1__parameters": {"wanda": "0.9", "samples": 8}}, "at zero, as wanda says"),
    ("O-03", {"steps__1__parameters": {"wanda": "2:4", "samples": 8}}, "2:4 in every product"),
    ("O-03", {"steps__1__calibration_sha256": None}, "wanda with calibration"),
    ("O-03", {"steps__3__parameters": {"bits": 1}}, "at most 2 values beside zero"),
    ("O-04", {"open_network__training": []}, "1 training entries"),
    ("O-08", {"open_network__coded": None}, "coded.bin and its part of the ledger"),
    ("O-08", {"coded": b"EBDC"}, "a coded file that can be read"),
]


@pytest.mark.parametrize(("rule", "changes", "said"), CASES, ids=[case[2] for case in CASES])
def test_an_edited_bundle_is_found(
    coded: PreparedImages, tmp_path: Path, rule: str, changes: dict[str, Any], said: str
) -> None:
    found = findings(coded, tmp_path, **changes)
    assert any(one.rule_id == rule and said in one.expected for one in found), found


def test_the_values_of_a_large_shared_weight_are_counted_right() -> None:
    """NumPy sorts so many equal fp16 values wrongly on CPUs with AVX-512 ICL and without SPR."""
    from edgebench.checker.network import _shared

    draws = np.random.default_rng(0)
    for _ in range(5):
        values = np.append(np.sort(draws.normal(size=32)).astype(np.float16), np.float16(0))
        weight = values[draws.integers(0, 33, (384, 49))]
        assert list(_shared(33, {"a.weight": weight})) == []
        assert [one.came for one in _shared(32, {"a.weight": weight})] == ["32"]


def test_a_planted_weight_is_found_by_the_coded_file(coded: PreparedImages, tmp_path: Path) -> None:
    """Its ledger is its own, so that only the file can tell."""
    arrays = {name: one.copy() for name, one in coded.kept_arrays.items()}
    flat = arrays["head.weight"].reshape(-1)
    flat[0], flat[1] = flat[1], np.float16(flat[0] + flat[1])
    model = coded.ledger.open_network
    assert model is not None
    told = describe_network(
        coded.candidate_genome, {}, arrays, training=model.training, coded_for=SMALLEST
    )
    found = findings(coded, tmp_path, arrays=arrays, open_network=told.model_dump())
    assert "O-08" in {one.rule_id for one in found}


def test_another_code_than_rtns_is_found(
    coded: PreparedImages, rounded: PreparedImages, tmp_path: Path
) -> None:
    found = findings(rounded, tmp_path, steps__1__parameters={"bits": 4, "group": 32,
        "symmetric": True, "whole_rows": True, "convolution_bits": 8})  # fmt: skip
    assert "as rtn rounds it" in found[0].expected


def test_int8_weights_are_rounded_again(
    coded: PreparedImages, rounded: PreparedImages, tmp_path: Path
) -> None:
    hashes = dict(rounded.ledger.convolutions)
    assert "stem" in hashes
    assert coded.ledger.convolutions == {}
    for changed in ({}, {**hashes, "stem": hashes["stages.0.0.depthwise"]}):
        (found, *_) = findings(rounded, tmp_path, convolutions=changed)
        assert (found.rule_id, found.expected[:30]) == ("O-01", "the ledger's INT8 weights as r")
    facts = {**rounded.ledger.model_dump()["open_network"]["tensors"]}
    facts["stem.weight"]["stored_bytes"] += 1
    (found, *_) = findings(rounded, tmp_path, open_network__tensors=facts)
    assert found.rule_id == "O-02"
