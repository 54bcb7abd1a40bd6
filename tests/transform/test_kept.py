"""A quantized model is made once for a recipe, and again where its recipe or its files differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgebench.transform import apply_transform, parse_transform
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.kept import FOLDER, TENSORS, quantized_once
from edgebench.transform.quantized import QuantizedModel, ReferenceLinears, model_sha256

pytestmark = pytest.mark.torch

CHAIN = "awq:group=32,samples=12"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Maker:
    """Counts how often it quantizes."""

    def __init__(self, reference: ReferenceLinears, calibration: CalibrationSet) -> None:
        self.reference, self.calibration = reference, calibration
        self.count = 0

    def model(self, chain: str = CHAIN) -> QuantizedModel:
        parsed = parse_transform(chain)

        def make() -> QuantizedModel:
            self.count += 1
            return apply_transform(parsed, self.reference, calibration=self.calibration)

        return quantized_once(parsed, self.reference, self.calibration, make)


@pytest.fixture
def maker(reference: ReferenceLinears, calibration: CalibrationSet) -> Maker:
    return Maker(reference, calibration)


def test_the_second_time_it_is_read(maker: Maker) -> None:
    first, second = maker.model(), maker.model()
    assert maker.count == 1
    assert second.steps == first.steps
    assert second.tensors.keys() == first.tensors.keys()
    assert {n: t.group for n, t in second.tensors.items()} == {
        n: t.group for n, t in first.tensors.items()
    }
    assert model_sha256(second.tensors, second.folded) == first.steps[-1].after_sha256
    for name, array in first.folded.arrays().items():
        assert np.array_equal(second.folded.arrays()[name], array)


def test_another_recipe_is_another_model(maker: Maker) -> None:
    maker.model()
    maker.model("awq:group=32,samples=11")
    maker.calibration = replace(maker.calibration, sha256="d" * 64)
    maker.model()
    maker.reference = replace(maker.reference, sha256="e" * 64)
    maker.model()
    assert maker.count == 4


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_what_is_damaged_is_made_again(maker: Maker, cache: Path, damage: str) -> None:
    first = maker.model()
    (path,) = (cache / FOLDER).glob(f"*/{TENSORS}")
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[-1] ^= 1
        path.write_bytes(data[:-100] if damage == "truncate" else data)
    again = maker.model()
    assert maker.count == 2
    assert again.steps == first.steps
    maker.model()
    assert maker.count == 2  # it is whole again


def test_a_cache_that_cannot_be_written_stops_nothing(maker: Maker, cache: Path) -> None:
    cache.write_text("a file where the folder would be")
    assert maker.model().steps == maker.model().steps
    assert maker.count == 2


def test_rtn_is_not_kept(maker: Maker, cache: Path) -> None:
    maker.model("rtn")
    maker.model("rtn")
    assert maker.count == 2
    assert not cache.exists()
