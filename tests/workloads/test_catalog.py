"""Reference models: verified whenever used, generated once, never believed when incomplete."""

from __future__ import annotations

import errno
import json
import multiprocessing
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgebench_workloads import catalog, pin
from edgebench_workloads.cache import build_once, cache_root
from edgebench_workloads.catalog import WORKLOADS, Workload, find
from edgebench_workloads.errors import UnknownWorkloadError, WorkloadAssetError
from edgebench_workloads.weights import Written, sha256_of

SHIPPED = Path(catalog.__file__).parent / "assistant" / "task.toml"


@pytest.fixture
def tiny(tmp_path: Path, tiny_directory: Path) -> Workload:
    """`assistant@300m` on the tiny Llama, in a folder of its own, its models pinned."""
    folder = tmp_path / "root" / "assistant"
    folder.mkdir(parents=True)
    shutil.copy(SHIPPED, folder)
    shutil.copytree(tiny_directory, folder / "model")
    workload = replace(find("assistant@300m"), root=tmp_path / "root")
    pin.pin_models([workload], cache=tmp_path / "pinning")
    return workload


# ------------------------------------------------------------------------------------------- names


def test_every_row_names_itself() -> None:
    assert list(WORKLOADS) == ["assistant", "assistant@300m", "assistant@1b", "wake"]
    assert all(find(name).name == name for name in WORKLOADS)
    for workload in WORKLOADS.values():
        suffix = "" if workload.variant_name is None else f"@{workload.variant_name}"
        assert workload.name == workload.base + suffix
        assert workload.task.name == workload.base


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("asistant", "assistant"), ("assistant@3b", "assistant@1b"), ("assistant-300m", "assistant@")],
)
def test_unknown_names_suggest_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownWorkloadError, match=f"did you mean '{nearest}"):
        find(name)


def test_hopeless_names_suggest_nothing() -> None:
    with pytest.raises(UnknownWorkloadError, match=r"got 'zzz'$"):
        find("zzz")


def test_only_widened_models_are_disclosed_and_closed() -> None:
    assert find("assistant").disclosure is None
    assert not find("assistant").closed_only
    for name in ("assistant@300m", "assistant@1b"):
        workload = find(name)
        assert workload.closed_only
        assert workload.disclosure is not None
        assert "widened" in workload.disclosure
        assert "outlier channels x" in workload.disclosure
        assert workload.plan is not None
        assert f"Replicas {workload.plan.replicas}" in workload.disclosure


# --------------------------------------------------------------------------------------- the models


def test_a_widened_model_is_generated_once(tiny: Workload, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    cache = tmp_path / "cache"
    directory = tiny.reference_directory(cache, lambda *at: seen.append(at))
    assert seen
    assert sha256_of(directory / "model.safetensors") == tiny.reference_sha256
    assert (directory / "model.safetensors").stat().st_size == tiny.reference_size_bytes
    assert json.loads((directory / "config.json").read_text())["hidden_size"] == 8 * 32
    before = (directory / "model.safetensors").stat().st_mtime_ns
    seen.clear()
    assert tiny.reference_directory(cache, lambda *at: seen.append(at)) == directory
    assert not seen
    assert (directory / "model.safetensors").stat().st_mtime_ns == before


def test_the_trained_model_lies_in_its_folder(tiny: Workload) -> None:
    trained = replace(tiny, name="assistant", variant_name=None)
    assert trained.reference_directory() == tiny.folder / "model"
    assert trained.reference_sha256 == sha256_of(tiny.folder / "model" / "model.safetensors")
    assert trained.plan is None


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1000] ^= 0x10
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


DAMAGES = [
    (_flip, r"got sha256 [0-9a-f]{64} \(altered\)"),
    (_truncate, r"got \d+ bytes \(truncated\)"),
    (_extend, r"got \d+ bytes \(too long\)"),
    (Path.unlink, "it is missing"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_shipped_weights_are_named(tiny: Workload, damage: Any, message: str) -> None:
    path = tiny.folder / "model" / "model.safetensors"
    expected = f"{path.stat().st_size} bytes, sha256 {sha256_of(path)}"
    damage(path)
    for workload in (tiny, replace(tiny, name="assistant", variant_name=None)):
        with pytest.raises(WorkloadAssetError, match=message) as caught:
            workload.reference_directory()
        assert str(caught.value).startswith(f"[{path}] expected {expected}, ")
        assert str(caught.value).endswith("; reinstall edgebench")


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_damaged_cached_weights_are_named(
    tiny: Workload, tmp_path: Path, damage: Any, message: str
) -> None:
    cache = tmp_path / "cache"
    directory = tiny.reference_directory(cache)
    damage(directory / "model.safetensors")
    with pytest.raises(WorkloadAssetError, match=message) as caught:
        tiny.reference_directory(cache)
    assert f"remove {directory} and it will be generated again" in str(caught.value)
    shutil.rmtree(directory)
    assert tiny.reference_directory(cache) == directory


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_altered_companions_are_named(tiny: Workload, tmp_path: Path, name: str) -> None:
    directory = tiny.reference_directory(tmp_path / "cache")
    (directory / name).write_text("{}")
    with pytest.raises(WorkloadAssetError, match=rf"{name}\] expected sha256 .* \(altered\)"):
        tiny.reference_directory(tmp_path / "cache")
    (tiny.folder / "model" / name).write_text("{}")
    with pytest.raises(WorkloadAssetError, match=rf"{name}\] expected sha256 .*reinstall"):
        tiny.reference_directory(tmp_path / "cache")


def test_a_generated_model_that_differs_is_not_kept(tiny: Workload, tmp_path: Path) -> None:
    pin.rewrite(tiny.folder / "task.toml", "variants.300m", {"sha256": "ab" * 32})
    cache = tmp_path / "cache"
    with pytest.raises(WorkloadAssetError, match=f"to have sha256 {'ab' * 32}, got [0-9a-f]{{64}}"):
        tiny.reference_directory(cache)
    assert _kept(cache) == []


def test_another_plan_lies_elsewhere(tiny: Workload, tmp_path: Path) -> None:
    assert tiny.plan is not None
    other = replace(tiny.plan, noise=0.123)
    assert tiny.cache_directory(tiny.plan, tmp_path) != tiny.cache_directory(other, tmp_path)


# -------------------------------------------------------------------- interruption and competition


def _kept(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "models").iterdir() if p.suffix != ".lock")


def test_an_interrupted_generation_leaves_nothing(tiny: Workload, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def interrupt(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny.reference_directory(cache, interrupt)
    assert _kept(cache) == []
    assert tiny.reference_directory(cache).is_dir()


def test_what_a_killed_process_left_is_not_believed(tiny: Workload, tmp_path: Path) -> None:
    assert tiny.plan is not None
    cache = tmp_path / "cache"
    directory = tiny.cache_directory(tiny.plan, cache)
    left = directory.with_name(directory.name + ".partial")
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half of it")
    assert tiny.reference_directory(cache) == directory
    assert _kept(cache) == [directory.name]


def test_a_full_disk_is_named(
    tiny: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> Written:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(catalog, "widen_checkpoint", full)
    with pytest.raises(WorkloadAssetError, match=r"No space left on device; .*EDGEBENCH_CACHE"):
        tiny.reference_directory(tmp_path / "cache")
    assert _kept(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_made_is_named(tiny: Workload, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkloadAssetError, match=r"cannot be generated: .*set EDGEBENCH_CACHE"):
        tiny.reference_directory(tmp_path / "file")


def _compete(directory: Path, start: Any, events: Any) -> None:
    """In a process of its own: build slowly enough that the other must wait."""

    def build(partial: Path) -> None:
        (partial / "part").write_text("half")
        events.put("built")
        threading.Event().wait(0.3)
        (partial / "part").write_text("complete")

    start.wait(60)
    build_once(directory, build)
    events.put(f"saw it {(directory / 'part').read_text()}")


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    events, start = context.Queue(), context.Barrier(2)
    arguments = (tmp_path / "thing", start, events)
    processes = [context.Process(target=_compete, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    seen = [events.get(timeout=10) for _ in range(3)]
    assert sorted(seen) == ["built", "saw it complete", "saw it complete"]
    assert (tmp_path / "thing" / "part").read_text() == "complete"


def test_cache_root_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "named"))
    assert cache_root(tmp_path) == tmp_path
    assert cache_root() == tmp_path / "named"
    monkeypatch.delenv("EDGEBENCH_CACHE")
    assert cache_root() == Path.home() / ".cache" / "edgebench"


def test_a_task_without_a_generator_has_no_unseen_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = WORKLOADS["assistant"]
    pairs = workload.unseen(3, seed=1)
    assert pairs is not None
    assert len(pairs) == 3
    monkeypatch.delattr("edgebench_workloads.assistant.dataset.unseen_pairs")
    assert workload.unseen(3, seed=1) is None
