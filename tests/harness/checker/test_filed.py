"""Nothing rides along in a file of tensors: no part, no metadata, no filling of the header."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from edgebench.checker import check
from edgebench.findings import Finding
from tests.harness.checker.conftest import Maker, tensors_bytes


def findings(maker: Maker, folder: Path, resealed: Callable[[Path], None]) -> list[Finding]:
    resealed(folder)
    return [one for one in check(folder, lookup=maker.lookup) if one.rule_id == "W-06"]


def test_each_thing_beside_is_named(maker: Maker) -> None:
    maker.beside = {name: np.zeros(9, np.int8) for name in ("a", "lm_head.payload", "z.scale", "y")}
    maker.metadata = {"x": "y" * 50}
    came = [one.came for one in maker.findings() if one.rule_id == "W-06"]
    assert "__metadata__ of 59 bytes" in came
    assert "a, lm_head.payload, y and 1 more" in came


def test_a_header_may_not_be_filled(maker: Maker, resealed: Callable[[Path], None]) -> None:
    folder = maker.write()
    data = tensors_bytes(maker.tensors)
    (size,) = struct.unpack("<Q", data[:8])
    filled = data[8 : 8 + size] + b" \t" * 400
    path = folder / "int4.safetensors"
    path.write_bytes(struct.pack("<Q", len(filled)) + filled + data[8 + size :])
    (found,) = findings(maker, folder, resealed)
    assert found.came.startswith("a header with 80")
    path.write_bytes(data)
    assert findings(maker, folder, resealed) == []


@pytest.mark.parametrize("name", ["open.safetensors", "folded.safetensors"])
def test_a_file_that_no_ledger_needs_is_refused(
    maker: Maker, resealed: Callable[[Path], None], name: str
) -> None:
    folder = maker.write()
    (folder / name).write_bytes(save({"payload": np.zeros(1000, np.float16)}))
    assert any(one.came == "payload" for one in findings(maker, folder, resealed))


def test_tensors_that_are_given_beside_are_held_to_it_too(maker: Maker, tmp_path: Path) -> None:
    maker.with_tensors_file, maker.ledger["tensors_file"] = False, None
    given = tmp_path / "given"
    given.mkdir()
    beside = {"payload": np.zeros(9, np.int8)}
    (given / "int4.safetensors").write_bytes(tensors_bytes(maker.tensors, beside))
    assert "payload" in [one.came for one in maker.findings(tensors=given)]
