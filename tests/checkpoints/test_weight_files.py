"""Where a directory's weights lie, and what is said of one that lacks them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgebench_kernels.checkpoints.files import INDEX, WEIGHTS, weight_files

SHARDS = [f"model-{part:05}-of-00004.safetensors" for part in range(1, 5)]
AGAIN = "the download or the copy is not whole: download the model again$"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def write_index(folder: Path) -> None:
    weight_map = {f"model.layers.{layer}.a.weight": name for layer, name in enumerate(SHARDS)}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_the_index_says_which_files(tmp_path: Path) -> None:
    touch(tmp_path, *SHARDS, "other.safetensors")
    write_index(tmp_path)
    assert [path.name for path in weight_files(tmp_path)] == SHARDS
    touch(tmp_path, WEIGHTS)
    assert [path.name for path in weight_files(tmp_path)] == [WEIGHTS]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (SHARDS, rf"expected {INDEX} in .*, got {', '.join(SHARDS[:3])} and 1 more without it"),
        (SHARDS[:1], rf"got {SHARDS[0]} without it; download or copy it too$"),
        (
            ["gptq_model-4bit-128g.safetensors"],
            f"got gptq_model-.*, name it {WEIGHTS}$",
        ),
        (["pytorch_model.bin"], "pytorch_model.bin stays closed; save .* safe_serialization=True"),
        (["config.json", "tokenizer.json"], f"got no weights at all, .*; {AGAIN}"),
    ],
)
def test_what_lies_there_instead_is_named(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(ValueError, match=message):
        weight_files(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS, INDEX])
def test_a_link_to_nothing_is_downloaded_again(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "blobs" / "0")
    with pytest.raises(ValueError, match=f"got {name} as a link to .*/blobs/0, .*; {AGAIN}"):
        weight_files(tmp_path)


def test_shards_that_are_not_there_are_downloaded_again(tmp_path: Path) -> None:
    write_index(tmp_path)
    touch(tmp_path, SHARDS[0], SHARDS[2])
    (tmp_path / SHARDS[1]).symlink_to(tmp_path / "blobs" / "1")
    with pytest.raises(ValueError, match=f"{SHARDS[1]}, {SHARDS[3]} are not there; {AGAIN}"):
        weight_files(tmp_path)
