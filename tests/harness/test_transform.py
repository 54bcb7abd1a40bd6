"""Transforms: what they quantize, what they leave alone, and the ledger step they write."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save_file

from edgebench.errors import SpecError
from edgebench.transform import PARAMETERS, SUMMARIES, TRANSFORMS, apply_transform, parse_transform
from edgebench.transform.quantized import (
    ReferenceLinears,
    model_sha256,
    open_reference,
    tensors_bytes,
)

ZEROS = "0" * 64


@pytest.fixture
def reference(tmp_path: Path) -> ReferenceLinears:
    """A checkpoint with two linears (one whose K is no multiple of 128), a norm, an embedding."""
    random = np.random.default_rng(0)
    path = tmp_path / "model.safetensors"
    save_file(
        {
            "model.layers.0.mlp.up_proj.weight": random.normal(size=(6, 256)).astype(np.float16),
            "lm_head.weight": random.normal(size=(5, 96)).astype(np.float16),
            "model.norm.weight": np.ones(96, np.float16),
            "model.embed_tokens.weight": np.ones((5, 96), np.float16),
        },
        path,
    )
    return open_reference(path, ZEROS)


def test_every_table_names_the_same_transforms() -> None:
    assert set(TRANSFORMS) == set(PARAMETERS) == set(SUMMARIES)


def test_linears_are_found_and_norms_and_embeddings_are_not(reference: ReferenceLinears) -> None:
    assert reference.names == ("lm_head", "model.layers.0.mlp.up_proj")


def test_rtn_takes_the_largest_group_that_divides_k(reference: ReferenceLinears) -> None:
    seen = []
    model = apply_transform(parse_transform("rtn"), reference, lambda *step: seen.append(step))
    assert model.tensors["model.layers.0.mlp.up_proj"].group == 128
    assert model.tensors["lm_head"].group == 32  # 96 = 3 x 32
    assert seen == [(1, 2), (2, 2)]


def test_rtn_writes_what_the_checker_needs(reference: ReferenceLinears) -> None:
    model = apply_transform(parse_transform("rtn:symmetric=true"), reference)
    (step,) = model.steps
    assert step.parameters == {"bits": 4, "group": 128, "symmetric": True}
    assert step.before_sha256 == ZEROS
    assert step.after_sha256 == model_sha256(model.tensors)
    assert all((tensor.zero == 8).all() for tensor in model.tensors.values())


def test_rtn_refuses_a_group_that_no_kernel_has(reference: ReferenceLinears) -> None:
    with pytest.raises(SpecError, match="group to be one of"):
        apply_transform(parse_transform("rtn:group=48"), reference)


def test_one_changed_code_changes_the_hash(reference: ReferenceLinears) -> None:
    model = apply_transform(parse_transform("rtn"), reference)
    before = model_sha256(model.tensors)
    model.tensors["lm_head"].qweight[0, 0] ^= 1
    assert model_sha256(model.tensors) != before


def test_tensors_survive_the_file(reference: ReferenceLinears) -> None:
    model = apply_transform(parse_transform("rtn"), reference)
    loaded = load(tensors_bytes(model.tensors))
    assert sorted(loaded) == sorted(
        f"{name}.{part}" for name in model.tensors for part in ("qweight", "scale", "zero")
    )
    head = model.tensors["lm_head"]
    assert np.array_equal(loaded["lm_head.qweight"], head.qweight)
    assert np.array_equal(loaded["lm_head.scale"], head.scale)
