"""Tensors too large for a bundle are kept beside the submissions when only data make them again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgebench.filing import kept_tensors
from edgebench.transform.quantized import QuantizedModel
from edgebench_kernels.quantize import quantize_rtn


def kept(out: Path, transform: str, tensors_file: str | None) -> Path | None:
    weight = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float16)
    steps = [SimpleNamespace(transform=transform)]
    prepared: Any = SimpleNamespace(
        ledger=SimpleNamespace(tensors_file=tensors_file, steps=steps),
        quantized=QuantizedModel(tensors={"up": quantize_rtn(weight, 32)}, steps=()),
    )
    spec: Any = SimpleNamespace(out=out)
    draft: Any = SimpleNamespace(run_id="run-1", workload=SimpleNamespace(name="assistant@300m"))
    return kept_tensors(spec, draft, prepared)


def test_what_only_data_make_again_is_kept(tmp_path: Path) -> None:
    folder = kept(tmp_path / "submissions", "gptq", None)
    assert folder == tmp_path / "submissions-tensors" / "run-1" / "assistant@300m"
    assert sorted(load_file(folder / "int4.safetensors")) == ["up.qweight", "up.scale", "up.zero"]


@pytest.mark.parametrize(("transform", "file"), [("rtn", None), ("gptq", "int4.safetensors")])
def test_what_is_there_or_can_be_made_is_not(tmp_path: Path, transform: str, file: str) -> None:
    assert kept(tmp_path / "submissions", transform, file) is None
    assert not list(tmp_path.iterdir())
