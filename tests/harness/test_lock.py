"""Two runs at once on one machine are noticed by both."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from edgebench.lock import FILE_NAME, MachineLock


def test_a_run_alone_sees_nobody(tmp_path: Path) -> None:
    for _ in range(2):
        with MachineLock(tmp_path) as lock:
            assert lock.check() is False
        assert lock.other_runs_seen is False
        assert lock.unavailable is None


def test_both_of_two_runs_notice(tmp_path: Path) -> None:
    with MachineLock(tmp_path) as first:
        with MachineLock(tmp_path) as second:
            assert second.other_runs_seen
            assert first.check()
        assert second.other_runs_seen
    assert first.other_runs_seen


def test_a_run_that_came_and_went_is_noticed_at_the_end(tmp_path: Path) -> None:
    with MachineLock(tmp_path) as lock:
        with MachineLock(tmp_path):
            pass
        assert lock.other_runs_seen is False  # not looked yet
    assert lock.other_runs_seen


def test_a_run_that_outlives_ours_is_noticed(tmp_path: Path) -> None:
    other = MachineLock(tmp_path)
    with MachineLock(tmp_path) as lock:
        other.__enter__()
    assert lock.other_runs_seen
    other.__exit__(None, None, None)
    with MachineLock(tmp_path) as later:
        pass
    assert later.other_runs_seen is False


def test_a_run_that_could_not_mark_the_file_is_noticed_by_its_lock(tmp_path: Path) -> None:
    with MachineLock(tmp_path) as lock:
        reader = os.open(tmp_path / FILE_NAME, os.O_RDONLY)  # another user's, not writable for it
        fcntl.flock(reader, fcntl.LOCK_SH)
        assert lock.check() is False
    assert lock.other_runs_seen
    os.close(reader)


def test_another_process_is_noticed(tmp_path: Path) -> None:
    with MachineLock(tmp_path) as lock:
        child = os.fork()
        if child == 0:  # pragma: no cover
            with MachineLock(tmp_path) as theirs:
                seen = theirs.other_runs_seen
            os._exit(0 if seen else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock.other_runs_seen


def test_the_file_is_usable_by_every_user(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        with MachineLock(tmp_path):
            mode = stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode)
    finally:
        os.umask(mask)
    assert mode == 0o666


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / FILE_NAME).symlink_to(victim)
    with MachineLock(tmp_path) as lock:
        assert lock.unavailable is not None
    assert victim.read_text() == "precious"
    assert lock.other_runs_seen is False


def test_a_planted_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE_NAME)
    with MachineLock(tmp_path) as lock:
        assert "plain file" in str(lock.unavailable)


def test_a_missing_directory_is_told_not_raised(tmp_path: Path) -> None:
    with MachineLock(tmp_path / "absent") as lock:
        assert "No such file" in str(lock.unavailable)
    assert lock.other_runs_seen is False


def test_the_file_is_not_inherited_by_child_processes(tmp_path: Path) -> None:
    with MachineLock(tmp_path) as lock:
        assert lock._file is not None
        assert os.get_inheritable(lock._file) is False
