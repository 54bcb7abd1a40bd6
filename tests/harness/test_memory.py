"""The peak resident memory of this process."""

from __future__ import annotations

from pathlib import Path

from edgebench.memory import peak_memory_bytes, reset_peak


def test_the_high_water_mark_is_read_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmPeak:\t 9 kB\nVmHWM:\t  2048 kB\nVmRSS:\t  5 kB\n")
    assert peak_memory_bytes(tmp_path) == 2048 * 1024


def test_nothing_is_measured_where_linux_does_not_say(tmp_path: Path) -> None:
    assert peak_memory_bytes(tmp_path) is None
    (tmp_path / "status").write_text("Name:\tbench\n")
    assert peak_memory_bytes(tmp_path) is None


def test_a_reset_writes_five_and_tells_whether_it_could(tmp_path: Path) -> None:
    assert reset_peak(tmp_path) is False
    (tmp_path / "clear_refs").write_text("")
    assert reset_peak(tmp_path) is True
    assert (tmp_path / "clear_refs").read_text() == "5"


def test_this_process_has_a_peak_that_follows_an_allocation() -> None:
    could_reset = reset_peak()
    before = peak_memory_bytes()
    assert before is not None
    block = bytearray(b"x" * (64 << 20))
    after = peak_memory_bytes()
    assert after is not None
    # Without a reset an earlier peak may hide the block.
    assert after >= before + (48 << 20 if could_reset else 0)
    assert len(block) == 64 << 20
