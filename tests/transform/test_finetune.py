"""The recovery fine-tune: it recovers, keeps zeros, and goes on where it was interrupted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgebench.open_model import count_fp16
from edgebench.transform import finetune, parse_transform
from edgebench.transform.changed import ChangedModel, changed_once
from edgebench.transform.finetuning import FinetuneRequest, read_finetune
from edgebench_kernels.engine import RegimeChoice, build_fp16, load_reference
from tests.harness.checker.tiny_llama import TinyWorld
from tests.harness.checker.tiny_open import changed_model, source_of

pytestmark = pytest.mark.torch

CHAIN = "prune:wanda=2:4+finetune:steps=40,batch=8,rate=0.003"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyWorld:
    pytest.importorskip("transformers")
    torch.set_num_threads(1)
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    return TinyWorld.write(tmp_path / "world")


def test_it_learns_from_the_reference_and_keeps_zeros(world: TinyWorld) -> None:
    made = changed_model(world, CHAIN)
    (cost,) = made.made.training
    assert (cost.examples, cost.steps, cost.teacher_sha256) == (320, 40, "a" * 64)
    assert cost.last_loss < 0.7 * cost.first_loss
    assert cost.cpu_s > 0
    pruned = changed_model(world, "prune:wanda=2:4").arrays()
    for name, array in made.arrays().items():
        if name.startswith("model.layers.") and "proj" in name:
            assert count_fp16(array).facts.pattern == "2:4"
            assert (array[pruned[name] == 0] == 0).all()
    step = made.made.steps[-1]
    assert step.parameters == {"steps": 40, "batch": 8, "rate": 0.003, "seed": 0}
    assert step.calibration_sha256 is None


def test_a_seed_repeats_and_another_differs(world: TinyWorld) -> None:
    text = "finetune:steps=3,batch=2,seed={}"
    first = changed_model(world, text.format(1))
    for path in first.directory.iterdir():
        path.unlink()
    assert changed_model(world, text.format(1)).sha256 == first.sha256
    assert changed_model(world, text.format(2)).sha256 != first.sha256


def test_an_interrupted_fine_tune_goes_on(
    world: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "STEPS_BETWEEN_CHECKPOINTS", 2)
    chain = parse_transform("finetune:steps=6,batch=2")
    source = source_of(world)
    starts: list[int] = []

    def cut_short(size: int, start: int) -> list[tuple[list[int], int]]:
        if start == 8:  # the fifth step
            raise KeyboardInterrupt
        return list(source.examples(size, start))

    def noted(size: int, start: int) -> list[tuple[list[int], int]]:
        starts.append(start)
        return list(source.examples(size, start))

    with pytest.raises(KeyboardInterrupt):
        changed_once(chain.changes, replace(source, examples=cut_short))
    resumed = changed_once(chain.changes, replace(source, examples=noted))
    assert starts == [8, 10]
    assert not list(resumed.directory.parent.glob("*.training"))
    whole = _afresh(resumed, world)
    assert whole.sha256 == resumed.sha256
    assert whole.made.training[0].last_loss == resumed.made.training[0].last_loss


def _afresh(made: ChangedModel, world: TinyWorld) -> ChangedModel:
    (made.directory / "steps.json").unlink()
    return changed_model(world, "finetune:steps=6,batch=2")


def test_the_loss_is_the_divergence_of_the_answers(world: TinyWorld) -> None:
    """The first loss, computed with plain softmaxes in float64."""
    made = changed_model(world, "prune:magnitude=0.5+finetune:steps=1,batch=3")
    pruned = changed_model(world, "prune:magnitude=0.5")
    expected, tokens = 0.0, 0
    models = [_model(folder) for folder in (world.folder, pruned.directory)]
    for ids, prompt in source_of(world).examples(3, 0):
        with torch.no_grad():
            logits = [model(torch.tensor([ids])).logits[0].double().numpy() for model in models]
        for place in range(prompt - 1, len(ids) - 1):
            p, q = (np.exp(one[place]) / np.exp(one[place]).sum() for one in logits)
            expected += float((p * (np.log(p) - np.log(q))).sum())
            tokens += 1
    assert made.made.training[0].first_loss == pytest.approx(expected / tokens, rel=1e-3)


def _model(folder: Path) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def test_heads_that_do_not_divide_the_hidden_size_learn_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six heads of eight: the fine-tuned forward pass is the engine's, to 1e-4 of the largest."""
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    world = TinyWorld.write(
        tmp_path / "world", num_attention_heads=8, num_key_value_heads=4, head_dim=16
    )
    made = changed_model(world, "prune:heads=0.25+finetune:steps=1,batch=2")
    weights = load_reference(made.directory)
    assert (weights.config.heads, weights.config.kv_heads) == (6, 3)
    raw = json.loads((made.directory / "config.json").read_text())
    ids = [5, 9, 17, 3, 11]
    with torch.no_grad():
        trained = finetune.build(weights, raw)(torch.tensor([ids])).logits[0].numpy()
    engine = build_fp16(weights, RegimeChoice.uniform("fp32"), max_length=5, ops="torch")
    came = engine.forward_all(torch.tensor([ids]), [5])[0].numpy()
    assert np.abs(came - trained).max() <= 1e-4 * np.abs(trained).max()


def test_the_rate_rises_and_ends_at_nothing() -> None:
    request = FinetuneRequest(steps=100, rate=0.01)
    rates = [finetune.learning_rate(step, request) for step in range(101)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[10] == pytest.approx(0.01)
    assert rates[55] == pytest.approx(0.005)
    assert rates[100] == 0
    assert read_finetune({"steps": 3}).examples == 96
