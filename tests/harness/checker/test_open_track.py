"""The open track: honest bundles pass, and each lie about a model breaks the rule made for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from edgebench.derive import KernelFacts
from edgebench.record import SampleRow
from edgebench_kernels.formats import tensor_sha256
from tests.harness.checker.conftest import Maker
from tests.harness.checker.edits import Case, Edit, assert_found, case_id
from tests.harness.checker.tiny_llama import TinyWorld
from tests.harness.checker.tiny_open import QUANTIZED, TRAINED, WHOLE, retell, submit_open

pytestmark = pytest.mark.torch

EMBEDDING = "model.embed_tokens.weight"
UP = "model.layers.1.mlp.up_proj"
CHAINS = (
    WHOLE,
    QUANTIZED,
    TRAINED,
    "prune:magnitude=0.5,scope=global+awq:group=32,samples=12",
    "prune:sparsegpt=4:8+gptq:group=32,samples=12",
    "prune:wanda=2:4+smoothquant:samples=12+gptq",
    "prune:layers=1+rtn:group=32",
    "prune:heads=0.5",
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyWorld:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    return TinyWorld.write(tmp_path / "world")


@pytest.mark.parametrize("chain", CHAINS)
def test_honest_bundles_pass(maker: Maker, world: TinyWorld, chain: str) -> None:
    submit_open(maker, world, chain)
    assert maker.findings() == []


def test_an_unquantized_model_has_a_row_of_its_own(offline: Maker, world: TinyWorld) -> None:
    submit_open(offline, world, WHOLE)
    reference, candidate = offline.record["results"]
    assert (reference["kernel"], candidate["kernel"]) == ("fp16", "open")
    assert candidate["accuracy_passed"] is None
    places = [one["roofline"]["operations_per_token"] for one in (reference, candidate)]
    assert places[1] == places[0] - 2 * 2 * 3 * 32 * 64  # 2 layers, gate, up, down, 32 units
    assert offline.findings() == []


@pytest.mark.parametrize(
    ("path", "share", "broken"),
    [
        ("w4a16-2:4/test", 0.4, set()),
        ("w4a16/test", 0.4, {"R-05", "S-07"}),
        ("w4a16-2:4/test", 0.37, {"R-05", "S-07"}),
    ],
)
def test_only_weights_packed_2_4_weigh_less_than_their_codes(
    maker: Maker,
    world: TinyWorld,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    share: float,
    broken: set[str],
) -> None:
    own_facts = maker._facts

    def facts(kernel: str, rows: list[SampleRow]) -> KernelFacts:
        made = own_facts(kernel, rows)
        if kernel == "fp16":
            return made
        weights = sum(n * k for n, k in (maker.candidate_shapes or {}).values())
        return replace(made, executed_path=path, weight_bytes=round(share * weights))

    monkeypatch.setattr(maker, "_facts", facts)
    submit_open(maker, world, QUANTIZED)
    assert {one.rule_id for one in maker.findings()} == broken


def numbers(**changes: Any) -> Edit:
    return lambda maker: maker.ledger["open_model"].update(changes)


def facts(name: str, **changes: Any) -> Edit:
    return lambda maker: maker.ledger["open_model"]["tensors"][name].update(changes)


def training(**changes: Any) -> Edit:
    return lambda maker: maker.ledger["open_model"]["training"][0].update(changes)


def altered(maker: Maker) -> None:
    maker.kept[EMBEDDING] = maker.kept[EMBEDDING].copy()
    maker.kept[EMBEDDING][0, 0] += np.float16(1)


def left_out(maker: Maker) -> None:
    del maker.kept[EMBEDDING]


def not_filed(maker: Maker) -> None:
    maker.kept.clear()


def filled(maker: Maker) -> None:
    """The codes of one tensor get rid of their zeros, and every number follows."""
    from edgebench.open_model import describe
    from edgebench.record import OpenShape

    tensor = maker.tensors[UP]
    tensor.zero[:] = 15
    tensor.qweight[:] &= 0x77
    maker.rehash()
    shape = OpenShape.model_validate(maker.ledger["open_model"]["shape"])
    model = describe(shape, maker.tensors.items(), maker.kept)
    maker.ledger["open_model"] = model.model_dump()
    maker.ledger["tensors"][UP] = tensor_sha256(tensor)
    retell(maker)


def step(index: int, **changes: Any) -> Edit:
    def edit(maker: Maker) -> None:
        maker.ledger["steps"][index].update(changes)
        retell(maker)

    return edit


def another_cut(maker: Maker) -> None:
    """Says to have cut a quarter more than it did."""
    words = WHOLE.replace("0.333333333", "0.666666667")
    maker.ledger["steps"][0]["parameters"]["units"] = 0.666666667
    maker.result("open")["transform"] = words
    retell(maker)


def silent(maker: Maker) -> None:
    maker.record["not_closed"] = []


def closed(maker: Maker) -> None:
    maker.record["track"] = "closed"
    maker.derive()


CASES: tuple[Case, ...] = (
    ("O-01", altered, {"O-01", "S-07"}),
    ("O-01", left_out, {"O-01", "S-07"}),
    ("O-01", not_filed, {"O-01", "S-07"}),
    ("O-02", numbers(params_nonzero=1), {"O-02", "S-07"}),
    ("O-02", numbers(bits_per_weight=1.0), {"O-02", "S-07"}),
    ("O-02", numbers(entropy_bits_per_weight=0.5), {"O-02", "S-07"}),
    ("O-02", numbers(effective_macs_per_token=1), {"O-02", "S-07"}),
    ("O-02", numbers(peak_memory_bytes=1), {"O-02", "S-07"}),
    ("O-02", numbers(peak_memory_definition="less"), {"O-02", "S-07"}),
    ("O-02", facts(EMBEDDING.removesuffix(".weight"), pattern="2:4"), {"O-02", "S-07"}),
    ("O-03", another_cut, {"O-03", "S-07"}),
    ("O-03", step(1, calibration_sha256=None), {"O-03", "S-07"}),
    ("O-05", silent, {"O-05", "S-07"}),
)  # fmt: skip
QUANTIZED_CASES: tuple[Case, ...] = (
    ("O-03", filled, {"O-03", "S-07"}),
    ("O-05", closed, {"O-05", "W-03", "W-07", "S-07"}),
)
TRAINED_CASES: tuple[Case, ...] = (
    ("O-04", training(teacher_sha256="7" * 64), {"O-04", "S-07"}),
    ("O-04", training(examples=4), {"O-04", "O-05", "S-07"}),
    ("O-04", lambda m: m.ledger["open_model"]["training"].clear(), {"O-04", "O-05", "S-07"}),
)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_smallest_failing_bundle(maker: Maker, world: TinyWorld, case: Case) -> None:
    submit_open(maker, world, WHOLE)
    assert_found(maker, case)


@pytest.mark.parametrize("case", QUANTIZED_CASES, ids=case_id)
def test_the_smallest_failing_quantized_bundle(maker: Maker, world: TinyWorld, case: Case) -> None:
    submit_open(maker, world, QUANTIZED)
    assert_found(maker, case)


@pytest.mark.parametrize("case", TRAINED_CASES, ids=case_id)
def test_the_smallest_failing_trained_bundle(maker: Maker, world: TinyWorld, case: Case) -> None:
    submit_open(maker, world, TRAINED)
    assert_found(maker, case)
