"""Writing a bundle: an interruption keeps what was measured, and half never passes for whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from edgebench import codec, draft, layout
from edgebench.bundle import BundleWriter, find_bundles, find_finished, find_resumable, read_bundle
from edgebench.checker import check
from edgebench.errors import BundleError, StorageError
from edgebench.record import CeilingRow, KernelTuning, Ledger, NllRow, Record, SampleRow
from edgebench.system import SystemDescription

if TYPE_CHECKING:
    from tests.harness.checker.conftest import Maker


@dataclass
class Run:
    """A run's parts, taken from a valid bundle."""

    root: Path
    final: Record
    ledger: Ledger
    system: SystemDescription
    blocks: list[list[SampleRow]]
    nll: list[NllRow]
    ceilings: list[CeilingRow]
    tensors: bytes
    lookup: Callable[[str], Any]

    def draft(self, **changes: Any) -> Record:
        empty = {"complete": False, "results": [], "ceilings": [], **changes}
        return self.final.model_copy(update=empty)

    def create(self, **changes: Any) -> BundleWriter:
        writer = BundleWriter.create(
            self.root, self.draft(**changes), ledger=self.ledger, system=self.system
        )
        writer.write_tensors(self.tensors)
        return writer

    def measure(self, writer: BundleWriter, skip: int = 0) -> None:
        for block in self.blocks[skip:]:
            writer.append_samples(block)

    def finish(self, writer: BundleWriter) -> Path:
        if not writer.nll:
            writer.append_nll(self.nll)
            writer.append_ceilings(self.ceilings)
        writer.power_path.write_text("t_ns,meter,domain,kind,value,unit\n")
        return writer.finish(self.final.model_copy(update={"run_id": writer.record.run_id}))

    def resume(self, **changes: Any) -> BundleWriter | None:
        draft = self.draft(run_id="run-9", **changes)
        return find_resumable(self.root, draft, ledger=self.ledger, clock_ns=lambda: 1 << 62)


@pytest.fixture
def run(maker: Maker, tmp_path: Path) -> Run:
    source = maker.write()
    bundle = read_bundle(source)
    blocks: dict[tuple[str, int], list[SampleRow]] = {}
    for row in bundle.samples:
        blocks.setdefault((row.kernel, row.block), []).append(row)
    return Run(
        root=tmp_path / "out",
        final=bundle.record,
        ledger=bundle.ledger,
        system=bundle.system,
        blocks=list(blocks.values()),
        nll=list(bundle.nll),
        ceilings=list(bundle.ceilings),
        tensors=(source / layout.TENSORS).read_bytes(),
        lookup=maker.lookup,
    )


def test_a_whole_run_passes_the_checker(run: Run) -> None:
    writer = run.create()
    run.measure(writer)
    path = run.finish(writer)
    assert path == run.root / "closed/tester/box/assistant@tiny/single-stream/run-1"
    assert check(path, lookup=run.lookup) == []
    assert list(find_bundles(run.root)) == [path]
    assert read_bundle(path).is_complete


def test_nothing_is_overwritten(run: Run) -> None:
    run.create()
    with pytest.raises(StorageError, match="expected a new folder"):
        run.create()


@pytest.mark.parametrize("blocks", range(5))
def test_an_interrupted_run_is_readable_unfinished_and_goes_on(run: Run, blocks: int) -> None:
    writer = run.create()
    for block in run.blocks[:blocks]:
        writer.append_samples(block)
    kept = read_bundle(writer.path, allow_incomplete=True)
    assert not kept.is_complete
    assert list(kept.samples) == [row for block in run.blocks[:blocks] for row in block]
    assert [found.rule_id for found in check(writer.path, lookup=run.lookup)] == ["S-05"]

    again = run.resume()
    assert again is not None
    assert again.record.run_id == "run-1"
    assert again.samples == list(kept.samples)
    assert again.last_ns() == max((row.completed_ns for row in kept.samples), default=0)
    run.measure(again, skip=blocks)
    assert check(run.finish(again), lookup=run.lookup) == []
    assert run.resume() is None


@pytest.mark.parametrize("cut", [1, 40, 1000])
def test_a_torn_append_is_cut_off(run: Run, cut: int) -> None:
    """Power fails between the write and the note of it: the block was not whole."""
    writer = run.create()
    writer.append_samples(run.blocks[0])
    torn = b"".join(map(codec.encode_row, run.blocks[1]))[:cut]
    with (writer.path / layout.SAMPLES).open("ab") as file:
        file.write(torn)
    with writer.power_path.open("w") as file:
        file.write("t_ns,meter,domain,kind,value,unit\n12,rapl,pack")
    again = run.resume()
    assert again is not None
    assert again.samples == run.blocks[0]
    assert again.power_path.read_text() == "t_ns,meter,domain,kind,value,unit\n"
    run.measure(again, skip=1)
    assert check(run.finish(again), lookup=run.lookup) == []


STEPS = ("record", "checksums", "progress")


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_while_finishing_never_passes_for_whole(
    run: Run, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    writer = run.create()
    run.measure(writer)
    write, unlink = codec.write_atomic, Path.unlink
    names = {"record": layout.RECORD, "checksums": layout.CHECKSUMS}

    def crash_on_write(path: Path, data: bytes) -> None:
        if path.name == names.get(step):
            raise KeyboardInterrupt
        write(path, data)

    def crash_on_unlink(path: Path, missing_ok: bool = False) -> None:
        if path.name == layout.PROGRESS:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr("edgebench.bundle_writer.write_atomic", crash_on_write)
        patched.setattr(Path, "unlink", crash_on_unlink)
        # The rows go to disk through progress.json, so only the last three writes are hit.
        with pytest.raises(KeyboardInterrupt):
            run.finish(writer)
    assert [found.rule_id for found in check(writer.path, lookup=run.lookup)] == ["S-05"]
    again = run.resume()
    assert again is not None
    assert check(run.finish(again), lookup=run.lookup) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": "standard"},
        {"system": "fox"},
        {"organisation": "other"},
        {"scenario": "offline"},
    ],
)
def test_another_request_is_not_taken_over(run: Run, changes: dict[str, Any]) -> None:
    run.measure(run.create())
    assert run.resume(**changes) is None
    assert run.resume() is not None


def test_other_weights_are_not_taken_over(run: Run) -> None:
    run.create()
    other = run.ledger.model_copy(update={"graph_sha256": "8" * 64})
    assert find_resumable(run.root, run.draft(), ledger=other) is None


def test_another_boot_is_not_taken_over(run: Run) -> None:
    writer = run.create()
    writer.append_samples(run.blocks[0])
    clock = writer.last_ns
    draft, ledger = run.draft(), run.ledger
    assert find_resumable(run.root, draft, ledger=ledger, clock_ns=lambda: clock() - 1) is None
    assert find_resumable(run.root, draft, ledger=ledger, clock_ns=clock) is not None


def test_a_folder_that_never_began_is_passed_over(run: Run) -> None:
    (run.root / "closed/tester/box/assistant@tiny/single-stream/run-0").mkdir(parents=True)
    broken = run.create()
    (broken.path / layout.LEDGER).unlink()
    assert run.resume() is None


def test_the_newest_unfinished_run_goes_on(run: Run) -> None:
    for run_id in ("run-1", "run-3", "run-2"):
        run.create(run_id=run_id)
    found = run.resume()
    assert found is not None
    assert found.record.run_id == "run-3"


def test_blocks_that_are_measured_again_are_dropped_first(run: Run) -> None:
    writer = run.create()
    run.measure(writer)
    writer.replace_samples(run.blocks[0])
    again = run.resume()
    assert again is not None
    assert again.samples == run.blocks[0]
    run.measure(again, skip=1)
    assert check(run.finish(again), lookup=run.lookup) == []


def test_a_finished_cell_is_found_by_its_run_id(run: Run) -> None:
    draft, ledger = run.draft(), run.ledger
    assert find_finished(run.root, draft, ledger=ledger, run_id="run-1") is None
    writer = run.create()
    assert find_finished(run.root, draft, ledger=ledger, run_id="run-1") is None
    run.measure(writer)
    run.finish(writer)
    found = find_finished(run.root, draft, ledger=ledger, run_id="run-1")
    assert found is not None
    assert found.record.results == run.final.results
    other = draft.model_copy(update={"profile": "standard"})
    assert find_finished(run.root, other, ledger=ledger, run_id="run-1") is None


def test_a_full_disk_keeps_the_blocks_before_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = run.create()
    writer.append_samples(run.blocks[0])
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda *_: full_disk())
        with pytest.raises(StorageError, match="full disk; free some space, then") as caught:
            writer.append_samples(run.blocks[1])
    assert caught.value.exit_code == 4
    assert list(read_bundle(writer.path, allow_incomplete=True).samples) == run.blocks[0]
    again = run.resume()
    assert again is not None
    run.measure(again, skip=1)
    assert check(run.finish(again), lookup=run.lookup) == []


def full_disk() -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_folder_that_cannot_be_written(run: Run) -> None:
    run.root.write_text("a file where the tree should be")
    with pytest.raises(StorageError, match=r"\[storage\] expected to write"):
        run.create()


def test_a_record_stays_unfinished_while_it_is_updated(run: Run) -> None:
    writer = run.create()
    writer.update(run.final)
    kept = read_bundle(writer.path, allow_incomplete=True).record
    assert not kept.complete
    assert kept.results == run.final.results


def test_tensors_beyond_the_limit_stay_out(run: Run) -> None:
    writer = run.create()
    with pytest.raises(BundleError, match="expected tensors"):
        writer.write_tensors(bytes(layout.SIZE_LIMITS[layout.TENSORS] + 1))


def test_a_resumed_run_keeps_its_tuning(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = KernelTuning(prefetch_bytes=8192, few_tokens={"w4a8": 3})
    host = run.final.host.model_copy(update={"kernel_tuning": tuning})
    writer = run.create(host=host)
    record = writer.record
    monkeypatch.setattr(draft, "system_name", lambda root: record.system)
    spec: Any = SimpleNamespace(out=run.root, track=record.track, organisation=record.organisation)
    assert draft.begun_tuning(spec, record.run_id, host.threads) == tuning
    assert draft.begun_tuning(spec, record.run_id, host.threads + 1) is None
    assert draft.begun_tuning(spec, "another-run", host.threads) is None
    (writer.path / layout.RECORD).write_text("{")
    assert draft.begun_tuning(spec, record.run_id, host.threads) is None
