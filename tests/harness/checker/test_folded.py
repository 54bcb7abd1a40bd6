"""What a smoothing transform folds beside its tensors is named by the ledger, array by array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgebench.checker import check
from edgebench.transform.quantized import Folded, folded_hashes, model_sha256
from tests.harness.checker.conftest import Maker, seal


@pytest.fixture
def smoothed(maker: Maker) -> Maker:
    """A bundle of the open track that says AWQ folded one norm; only hashes are checked there."""
    folded = Folded(
        norms={"model.norm": np.full(64, 0.5, np.float16)},
        scales={"model.norm": np.full(64, 2.0, np.float32)},
    )
    maker.workload = replace(maker.workload, closed_only=False)
    maker.record["track"] = "open"
    maker.folded = {name: np.asarray(array) for name, array in folded.arrays().items()}
    maker.ledger["folded"] = folded_hashes(folded)
    maker.ledger["steps"][0].update(
        transform="awq",
        calibration_sha256="3" * 64,
        choices={"model.norm": 0.5},
        after_sha256=model_sha256(maker.tensors, folded),
    )
    maker.transform = "awq"
    maker.derive()
    return maker


def rules(maker: Maker) -> list[str]:
    return [found.rule_id for found in maker.findings()]


def test_a_whole_bundle_passes(smoothed: Maker) -> None:
    assert rules(smoothed) == []


def test_tensors_that_only_data_can_make_again_have_to_be_there(smoothed: Maker) -> None:
    smoothed.with_tensors_file = False
    smoothed.ledger["tensors_file"] = None
    assert set(rules(smoothed)) == {"W-06", "S-07"}


def other_norm(maker: Maker) -> None:
    maker.folded["model.norm.weight"] = np.full(64, 0.25, np.float16)


def another_array(maker: Maker) -> None:
    maker.folded["lm_head.bias"] = np.zeros(4, np.float16)


def no_array(maker: Maker) -> None:
    del maker.folded["model.norm.scale"]


def no_file(maker: Maker) -> None:
    maker.folded = {}


def no_entry(maker: Maker) -> None:
    del maker.ledger["folded"]["model.norm.scale"]


@pytest.mark.parametrize("edit", [other_norm, another_array, no_array, no_file, no_entry])
def test_what_the_ledger_does_not_name_is_found(
    smoothed: Maker, edit: Callable[[Maker], None]
) -> None:
    edit(smoothed)
    assert "W-06" in rules(smoothed)


def test_a_file_that_is_none(smoothed: Maker) -> None:
    smoothed.folded = {}
    path = smoothed.write()
    (path / "folded.safetensors").write_bytes(b"nothing")
    (path / "SHA256SUMS").unlink()
    seal(path)
    found = check(path, lookup=smoothed.lookup)
    assert "W-06" in {item.rule_id for item in found}


def test_rounding_folds_nothing(maker: Maker) -> None:
    maker.folded = {"model.norm.weight": np.full(64, 0.5, np.float16)}
    folded = Folded(norms={"model.norm": np.full(64, 0.5, np.float16)})
    maker.ledger["folded"] = folded_hashes(folded)
    maker.ledger["steps"][0]["after_sha256"] = model_sha256(maker.tensors, folded)
    assert set(rules(maker)) == {"W-06", "S-07"}
