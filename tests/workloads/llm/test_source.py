"""A model is a directory or a hub id in the local cache; anything else is a clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench_workloads.errors import UnknownWorkloadError, WorkloadAssetError
from edgebench_workloads.llm.source import find_model, hub_cache

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached(tmp_path: Path) -> dict[str, str]:
    """A hub cache that holds owner/name."""
    repository = tmp_path / "hub" / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    return {"HF_HOME": str(tmp_path)}


def test_a_directory_is_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert find_model(str(tmp_path), {}) == tmp_path


def test_a_directory_without_a_model_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownWorkloadError, match=r"which has no config\.json; give the one"):
        find_model(str(tmp_path), {})


def test_a_hub_id_is_found_in_the_cache(cached: dict[str, str], tmp_path: Path) -> None:
    expected = tmp_path / "hub" / "models--owner--name" / "snapshots" / COMMIT
    assert find_model("owner/name", cached) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
    ],
)
def test_the_cache_is_where_the_hubs_tools_put_it(environment, expected: str) -> None:
    assert hub_cache(environment) == Path(expected)


def test_a_hub_id_that_is_not_cached_says_the_offline_way(cached: dict[str, str]) -> None:
    with pytest.raises(WorkloadAssetError, match=r"'owner/other'.*hf download owner/other"):
        find_model("owner/other", cached)


@pytest.mark.parametrize("commit", ["", "../../..", "main", COMMIT[::-1]])
def test_a_broken_reference_is_no_model(cached, tmp_path: Path, commit: str) -> None:
    (tmp_path / "hub" / "models--owner--name" / "refs" / "main").write_text(commit)
    with pytest.raises(WorkloadAssetError, match="does not hold it"):
        find_model("owner/name", cached)


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "/no/such/folder", "https://x.y/z"])
def test_what_is_neither_is_usage(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a neighbour of the checkout might be called x
    with pytest.raises(UnknownWorkloadError, match=r"directory|hub id"):
        find_model(name, {})


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnknownWorkloadError, match="got the file"):
        find_model(str(tmp_path / "model.gguf"), {})
