"""Each transform's honest bundle passes, and each cheat on it breaks the rule made for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from edgebench.transform.quantized import (
    Folded,
    QuantizedModel,
    model_sha256,
)
from edgebench_kernels.formats import Int4Tensor
from tests.harness.checker.conftest import Maker
from tests.harness.checker.edits import Case, assert_found
from tests.harness.checker.tiny_llama import CHAINS, TinyWorld, submit

pytestmark = pytest.mark.torch

UP = "model.layers.1.mlp.up_proj"
GPTQ = "gptq:group=32,samples=12"
AWQ = "awq:group=32,samples=12,clip=false"
SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 1},
    {"tie_word_embeddings": True},
)
"""Two query heads a key, one, four; lm_head with a weight of its own, and with the embedding's."""


@pytest.fixture
def world(tmp_path: Path) -> TinyWorld:
    return TinyWorld.write(tmp_path / "world")


def rules(maker: Maker) -> set[str]:
    return {found.rule_id for found in maker.findings()}


@pytest.mark.parametrize("changes", SHAPES, ids=str)
@pytest.mark.parametrize("chain", CHAINS)
def test_honest_bundles_pass(
    maker: Maker, tmp_path: Path, chain: str, changes: dict[str, Any]
) -> None:
    world = TinyWorld.write(tmp_path / "world", **changes)
    submit(maker, world, chain, world.quantized(chain))
    assert maker.findings() == []


@pytest.mark.parametrize("chain", ["gptq:samples=12", "awq:samples=12+gptq"])
def test_dead_columns_pass_as_rounding_leaves_them(
    maker: Maker, world: TinyWorld, chain: str
) -> None:
    """Channels whose norm is 0 never reach q, k and v."""

    def kill(norm: Any) -> Any:
        norm[[0, 17, 63]] = 0
        return norm

    reference = world.altered("model.layers.0.input_layernorm.weight", kill)
    dead = replace(world, folder=reference.path.parent, reference=reference)
    submit(maker, dead, chain, dead.quantized(chain))
    assert maker.findings() == []


def test_tensors_may_come_from_a_folder(maker: Maker, world: TinyWorld, tmp_path: Path) -> None:
    submit(maker, world, GPTQ, world.quantized(GPTQ))
    source = maker.write()
    (tmp_path / "elsewhere").mkdir()
    (source / "int4.safetensors").rename(tmp_path / "elsewhere" / "int4.safetensors")
    maker.record["run_id"] = "run-2"
    maker.with_tensors_file = False
    maker.ledger["tensors_file"] = None
    assert maker.findings(tensors=tmp_path / "elsewhere") == []


def test_what_only_data_can_make_again_needs_its_tensors(maker: Maker, world: TinyWorld) -> None:
    submit(maker, world, GPTQ, world.quantized(GPTQ))
    maker.with_tensors_file = False
    maker.ledger["tensors_file"] = None
    found = next(found for found in maker.findings() if found.rule_id == "W-06")
    assert "--tensors" in found.came


# ---------------------------------------------------------------------------- cheats

Change = Callable[[TinyWorld], tuple[str, QuantizedModel]]


def refiled(model: QuantizedModel, **changes: Any) -> QuantizedModel:
    """The model with other tensors or folded arrays, its last hash as it should be."""
    other = replace(model, **changes)
    last = model.steps[-1].model_copy(
        update={"after_sha256": model_sha256(other.tensors, other.folded)}
    )
    return replace(other, steps=(*model.steps[:-1], last))


def other_weights(chain: str) -> Change:
    """Retrained: every weight of one linear moves by a hundredth of a step."""

    def make(world: TinyWorld) -> tuple[str, QuantizedModel]:
        draw = np.random.default_rng(5)
        reference = world.altered(
            f"{UP}.weight", lambda w: (w + draw.normal(0, 0.02, w.shape)).astype(np.float16)
        )
        return chain, world.quantized(chain, reference=reference)

    return make


def two_of_four(chain: str) -> Change:
    def drop(weight: Any) -> Any:
        grouped = weight.reshape(-1, 4)
        np.put_along_axis(grouped, np.argsort(np.abs(grouped), axis=1)[:, :2], 0, axis=1)
        return weight

    return lambda world: (
        chain,
        world.quantized(chain, reference=world.altered(f"{UP}.weight", drop)),
    )


def other_set(chain: str) -> Change:
    return lambda world: (chain, world.quantized(chain, first=12))


def said(did: str, chain: str) -> Change:
    """Done in one way, declared in another."""

    def make(world: TinyWorld) -> tuple[str, QuantizedModel]:
        model, declared = world.quantized(did), world.quantized(chain)
        return chain, refiled(declared, tensors=model.tensors)

    return make


def edited_tensors(chain: str, edit: Callable[[Int4Tensor], Int4Tensor]) -> Change:
    def make(world: TinyWorld) -> tuple[str, QuantizedModel]:
        model = world.quantized(chain)
        return chain, refiled(model, tensors={**model.tensors, UP: edit(model.tensors[UP])})

    return make


def wider(tensor: Int4Tensor) -> Int4Tensor:
    return replace(tensor, scale=(tensor.scale * np.float16(1.01)).astype(np.float16))


def edited_fold(edit: Callable[[dict[str, Any], dict[str, Any]], object]) -> Change:
    def make(world: TinyWorld) -> tuple[str, QuantizedModel]:
        model = world.quantized(AWQ)
        norms = {name: array.copy() for name, array in model.folded.norms.items()}
        scales = {name: array.copy() for name, array in model.folded.scales.items()}
        edit(norms, scales)
        return AWQ, refiled(model, folded=Folded(norms=norms, scales=scales))

    return make


def other_exponent(world: TinyWorld) -> tuple[str, QuantizedModel]:
    model = world.quantized(AWQ)
    step = model.steps[0]
    choices = dict.fromkeys(step.choices, 0.33)
    return AWQ, replace(model, steps=(step.model_copy(update={"choices": choices}),))


def no_choice(world: TinyWorld) -> tuple[str, QuantizedModel]:
    model = world.quantized(AWQ)
    return AWQ, replace(model, steps=(model.steps[0].model_copy(update={"choices": {}}),))


def edit(change: Change) -> Callable[[Maker], None]:
    def apply(maker: Maker) -> None:
        world = TinyWorld.write(maker.root.parent / "world")
        chain, model = change(world)
        submit(maker, world, chain, model)

    apply.__qualname__ = getattr(change, "__qualname__", "")
    return apply


def norm_up(norms: dict[str, Any], scales: dict[str, Any]) -> None:
    norms["model.norm"] = (norms["model.norm"] * np.float16(1.01)).astype(np.float16)


def scale_up(norms: dict[str, Any], scales: dict[str, Any]) -> None:
    scales[UP] = scales[UP] * np.float32(1.01)


def scale_of_nothing(norms: dict[str, Any], scales: dict[str, Any]) -> None:
    scales["lm_head"] = np.ones(50, np.float32)


def negative_scale(norms: dict[str, Any], scales: dict[str, Any]) -> None:
    scales[UP][3] = -scales[UP][3]


CASES: tuple[tuple[str, Change, set[str]], ...] = (
    ("W-09", other_set(AWQ), {"W-09"}),
    ("W-09", other_set("smoothquant:samples=12"), {"W-09"}),
    ("W-09", other_exponent, {"W-09"}),
    ("W-09", no_choice, {"W-09"}),
    ("W-09", edited_fold(norm_up), {"W-09"}),
    ("W-09", edited_fold(scale_up), {"W-04", "W-09", "W-10"}),
    ("W-09", edited_fold(negative_scale), {"W-04", "W-09", "W-10", "W-12"}),
    ("W-09", edited_fold(scale_of_nothing), {"W-09"}),
    ("W-10", edited_tensors("awq:samples=12", wider), {"W-10", "W-04"}),
    ("W-10", edited_tensors(GPTQ, wider), {"W-10", "W-11", "W-12"}),
    ("W-04", other_weights(AWQ), {"W-04", "W-09", "W-10", "W-12"}),
    ("W-11", other_weights(GPTQ), {"W-10", "W-11", "W-12"}),
    ("W-11", other_set(GPTQ), {"W-11", "W-12"}),
    ("W-11", said("rtn:group=32", GPTQ), {"W-11", "W-12"}),
    ("W-11", said("gptq:group=32,samples=12,damping=0.05", GPTQ), {"W-11", "W-12"}),
    ("W-11", said("gptq:group=32,samples=12,act_order=false", GPTQ), {"W-11", "W-12"}),
    ("W-04", said(GPTQ, "rtn:group=32"), {"W-04", "W-12"}),
    ("W-12", two_of_four("rtn:group=32"), {"W-04", "W-10", "W-12"}),
    ("W-12", two_of_four(GPTQ), {"W-10", "W-11", "W-12"}),
)  # fmt: skip


def case_name(case: tuple[str, Change, set[str]]) -> str:
    return f"{case[0]}-{getattr(case[1], '__qualname__', '').split('.')[0]}"


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_a_cheat_is_rejected(maker: Maker, case: tuple[str, Change, set[str]]) -> None:
    rule, change, expected = case
    full: Case = (rule, edit(change), {*expected, "S-07"})
    assert_found(maker, full)


def test_more_samples_than_there_are(maker: Maker, world: TinyWorld) -> None:
    model = world.quantized(GPTQ)
    step = model.steps[0]
    parameters = {**step.parameters, "samples": 1000}
    forged = replace(model, steps=(step.model_copy(update={"parameters": parameters}),))
    submit(maker, world, "gptq:group=32", forged)
    assert rules(maker) == {"W-02", "S-07"}


@pytest.mark.parametrize(
    "change",
    [{"damping": 0.0}, {"damping": "0.01"}, {"group": 48}, {"act_order": 1}, {"seed": 3}],
    ids=str,
)
def test_parameters_that_no_such_transform_has(
    maker: Maker, world: TinyWorld, change: dict[str, Any]
) -> None:
    model = world.quantized(GPTQ)
    step = model.steps[0]
    forged = step.model_copy(update={"parameters": {**step.parameters, **change}})
    submit(maker, world, "gptq", replace(model, steps=(forged,)))
    assert rules(maker) == {"W-07", "S-07"}
