"""Quality and weights: the smallest bundle that breaks each rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgebench.checker import check
from tests.harness.checker.conftest import EOS, Maker
from tests.harness.checker.edits import (
    Case,
    Edit,
    add_accuracy,
    assert_found,
    case_id,
    edit_result,
    make_external,
    rows,
)

FIRST = "model.layers.0.mlp.up_proj"


def wrong_answers(maker: Maker) -> None:
    for row in rows(maker, "int4"):
        if row["sample"] == 0:
            row["output_ids"] = [9, 9, 9, EOS]
    maker.derive()


def weak_reference(maker: Maker) -> None:
    for row in maker.samples:
        if row["sample"] < 8:
            row["output_ids"] = [9, 9, 9, EOS]
    maker.derive()


def short_answers(maker: Maker) -> None:
    """The fp16 answers ramble on, so that int4's look truncated; the gate itself is kept."""
    for row in maker.samples:
        if row["sample"] < 40:
            row["output_ids"] = [9, 9, 9, EOS]
            if row["kernel"] == "fp16":
                row["output_ids"] = [9, 9, 9, 9, 9, 9, EOS]
    maker.workload = replace(maker.workload, name="other@tiny")  # no pinned accuracy
    maker.record["workload"]["name"] = "other@tiny"
    for row in maker.ceilings:
        row["value"] *= 10  # more tokens in the same time would beat the machine
    maker.derive()


def unsteady_outputs(maker: Maker) -> None:
    for row in rows(maker, "int4"):
        if row["block"] % 2 and row["sample"] < 3:
            row["output_ids"] = [9, 9, 9, EOS]
    maker.derive()


def wrong_call_tokens(maker: Maker) -> None:
    maker.nll[0]["tokens"] = 5
    maker.derive()


def nll_of_one_kernel(maker: Maker) -> None:
    maker.nll = [row for row in maker.nll if row["kernel"] == "fp16"]
    maker.derive()


def nll_twice(maker: Maker) -> None:
    maker.nll.append(maker.nll[0])
    maker.derive()


def scored_half(maker: Maker) -> None:
    """In standard the whole set counts; the accuracy run stopped early."""
    maker.record["profile"] = "standard"
    add_accuracy(maker)
    maker.samples = [
        row for row in maker.samples if row["mode"] == "performance" or row["sample"] < 32
    ]
    maker.derive()


def output(ids: list[int]) -> Edit:
    def edit(maker: Maker) -> None:
        for row in maker.samples:
            if row["sample"] == 5:
                row["output_ids"] = ids
        maker.derive()

    return edit


def edit_step(**changes: Any) -> Edit:
    return lambda maker: maker.ledger["steps"][0].update(changes)


def overlap(maker: Maker) -> None:
    maker.workload = replace(maker.workload, calibration_overlap=1)


def missing_linear(maker: Maker) -> None:
    del maker.tensors["lm_head"]
    maker.rehash()


def retrained(maker: Maker) -> None:
    """Other weights than the reference's, on the reference's own grid."""
    weight = maker.workload.reference.weight(FIRST).astype(np.float32)
    moved = weight + np.random.default_rng(1).normal(0, 0.01, weight.shape).astype(np.float32)
    tensor = maker.tensors[FIRST]
    scale, zero = tensor.scale.astype(np.float32), tensor.zero.astype(np.float32)
    codes = np.clip(np.rint(moved / scale) + zero, 0, 15).astype(np.uint8)  # one group a row
    maker.tensors[FIRST] = replace(tensor, qweight=codes[:, 0::2] | codes[:, 1::2] << 4)
    maker.rehash()


def pruned(maker: Maker) -> None:
    """Two of every four weights are gone; the scales stay."""
    tensor = maker.tensors[FIRST]
    codes = np.stack([tensor.qweight & 15, tensor.qweight >> 4], axis=2).reshape(tensor.shape)
    keep = codes.reshape(codes.shape[0], -1, 2)
    keep[:, 1::2] = np.repeat(tensor.zero, 64, axis=1).reshape(keep.shape)[:, 1::2]
    qweight = codes[:, 0::2] | codes[:, 1::2] << 4
    maker.tensors[FIRST] = replace(tensor, qweight=qweight)
    maker.rehash()


def edit_tensor(**changes: Any) -> Edit:
    def edit(maker: Maker) -> None:
        tensor = maker.tensors[FIRST]
        changed = {name: change(getattr(tensor, name)) for name, change in changes.items()}
        maker.tensors[FIRST] = replace(tensor, **changed)
        maker.rehash()

    return edit


def first(value: object) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array = array.copy()
        array[0, 0] = value
        return array

    return change


def huge_steps(maker: Maker) -> None:
    """One step spans the whole range, so that half a step says nothing."""
    weight = maker.workload.reference.weight(FIRST).astype(np.float32)
    tensor = maker.tensors[FIRST]
    scale = np.full_like(tensor.scale, 2 * np.abs(weight).max())
    zero = np.full_like(tensor.zero, 8)
    maker.tensors[FIRST] = replace(
        tensor, scale=scale, zero=zero, qweight=np.full_like(tensor.qweight, 0x88)
    )
    maker.rehash()


def payload(maker: Maker) -> None:
    maker.beside["lm_head.payload"] = np.zeros(50_000, np.float32)


def metadata(maker: Maker) -> None:
    maker.metadata = {"format": "y" * 100}


def swapped_tensor(maker: Maker) -> None:
    maker.ledger["tensors"][FIRST] = "5" * 64


def open_track(maker: Maker) -> None:
    maker.record["track"] = "open"
    maker.derive()


def timed(**changes: Any) -> Edit:
    """An engine that says what it held, and then something else."""

    def edit(maker: Maker) -> None:
        held = {
            "model_sha256": maker.ledger["steps"][-1]["after_sha256"],
            "before_sha256": "7" * 64,
            "after_sha256": "7" * 64,
            "packed_bytes": maker.result("int4")["weight_bytes"] - 128,
        }
        maker.result("int4")["timed_weights"] = {**held, **changes}

    return edit


def wordy(maker: Maker) -> None:
    """Weights in the ledger: choices, and of a step that makes none."""
    choices = {f"{'w' * 90}{i}": 0.5 for i in range(100)}
    maker.ledger["steps"][0]["choices"] = choices


def external_with_weights(maker: Maker) -> None:
    """An external engine that names its quantizer, which nobody could check."""
    make_external(maker)
    maker.result("external")["transform"] = "rtn"


CASES: tuple[Case, ...] = (
    ("Q-01", edit_result("int4", accuracy=0.5), {"Q-01", "S-07"}),
    ("Q-01", edit_result("int4", accuracy_passed=None), {"Q-01", "S-07"}),
    ("Q-02", wrong_answers, {"Q-02"}),
    ("Q-03", weak_reference, {"Q-03", "S-07"}),
    ("Q-04", short_answers, {"Q-04"}),
    ("Q-05", unsteady_outputs, {"Q-05", "S-07"}),
    ("Q-06", edit_result("int4", call_nll=0.01), {"Q-06", "S-07"}),
    ("Q-06", wrong_call_tokens, {"Q-06", "S-07"}),
    ("Q-06", nll_of_one_kernel, {"Q-06", "S-07"}),
    ("Q-06", nll_twice, {"Q-06", "S-07"}),
    ("Q-07", scored_half, {"Q-07", "D-01", "D-02"}),
    ("Q-08", output([8, 5, EOS, 6]), {"Q-08", "S-07"}),
    ("Q-08", output([8, 5, 6]), {"Q-08", "S-07"}),
    ("Q-08", output([64, 5, EOS]), {"Q-08", "S-07"}),
    ("Q-08", output([8] * 9), {"Q-08", "S-07"}),
    ("W-01", lambda m: m.record["workload"].update(task_sha256="9" * 64), {"W-01", "S-07"}),
    ("W-01", lambda m: m.record["workload"].update(reference_sha256="9" * 64), {"W-01", "S-07"}),
    ("W-01", lambda m: m.record["workload"].update(scored_sha256="9" * 64), {"W-01", "S-07"}),
    ("W-01", lambda m: m.record["workload"].update(kind="images"), {"W-01", "S-07"}),
    ("W-02", edit_step(calibration_sha256="9" * 64), {"W-02", "S-07"}),
    ("W-02", overlap, {"W-02", "S-07"}),
    ("W-02", edit_step(transform="gptq"), {"W-02", "W-07", "S-07"}),
    ("W-03", lambda m: m.ledger.update(graph_sha256="9" * 64), {"W-03", "S-07"}),
    ("W-03", missing_linear, {"W-03", "S-07"}),
    ("W-04", retrained, {"W-04", "W-12", "S-07"}),
    ("W-12", pruned, {"W-04", "W-12", "S-07"}),
    ("W-10", huge_steps, {"W-10", "S-07"}),
    ("W-05", edit_tensor(scale=first(np.inf)), {"W-05", "S-07"}),
    ("W-05", edit_tensor(scale=first(0)), {"W-05", "S-07"}),
    ("W-05", edit_tensor(zero=first(16)), {"W-05", "S-07"}),
    ("W-06", swapped_tensor, {"W-06", "S-07"}),
    ("W-06", edit_step(choices={"model.norm": 0.5}), {"W-06", "S-07"}),
    ("W-06", payload, {"W-06", "S-07"}),
    ("W-06", metadata, {"W-06", "S-07"}),
    ("W-06", edit_step(before_sha256="9" * 64), {"W-06", "S-07"}),
    ("W-06", edit_step(after_sha256="9" * 64), {"W-06", "S-07"}),
    ("W-06", lambda m: m.ledger.update(tensors_file=None), {"W-06", "S-07"}),
    ("W-06", lambda m: m.ledger.update(folded={"model.norm.weight": "9" * 64}), {"W-06", "S-07"}),
    ("W-07", edit_step(transform="finetune"), {"W-07", "O-05", "S-07"}),
    ("W-07", edit_step(parameters={"bits": 3, "group": 128}), {"W-07", "S-07"}),
    ("W-07", edit_result("fp16", transform="rtn"), {"W-07", "S-07"}),
    ("W-07", edit_result("int4", transform="rtn:group=32"), {"W-07", "S-07"}),
    ("W-13", wordy, {"W-13", "W-06", "S-07"}),
    ("W-14", timed(model_sha256="8" * 64), {"W-14", "S-07"}),
    ("W-14", timed(after_sha256="8" * 64), {"W-14", "S-07"}),
    ("W-14", timed(packed_bytes=100), {"W-14", "S-07"}),
    ("W-16", lambda m: setattr(m, "is_hashed", False), {"W-16"}),
    ("W-08", open_track, {"W-08", "S-07"}),
    ("E-01", external_with_weights, {"E-01", "E-02", "S-07"}),
    ("E-02", make_external, {"E-02"}),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_smallest_failing_bundle(maker: Maker, case: Case) -> None:
    assert_found(maker, case)


def test_tensors_are_regenerated_from_the_recipe(maker: Maker) -> None:
    maker.with_tensors_file = False
    maker.ledger["tensors_file"] = None
    assert maker.findings() == []


def test_a_recipe_that_gives_other_tensors_is_found(maker: Maker) -> None:
    maker.with_tensors_file = False
    maker.ledger["tensors_file"] = None
    maker.ledger["steps"][0]["parameters"]["symmetric"] = True
    assert "W-06" in {found.rule_id for found in maker.findings()}


def test_tensors_may_come_from_a_folder(maker: Maker) -> None:
    source = maker.write()
    folder = maker.root / "elsewhere"
    folder.mkdir()
    (source / "int4.safetensors").rename(folder / "int4.safetensors")
    maker.record["run_id"] = "run-2"
    maker.with_tensors_file = False
    maker.ledger["tensors_file"] = None
    assert maker.findings(tensors=folder) == []


def test_a_workload_that_nobody_knows(maker: Maker) -> None:
    path = maker.write()
    maker.workload = replace(maker.workload, name="other@tiny")
    assert [found.rule_id for found in check(path, lookup=maker.lookup)] == ["W-01"]


def test_weights_that_stay_the_same_pass(maker: Maker) -> None:
    timed()(maker)
    assert maker.findings() == []
