"""`bench run`'s words: a disk that failed midway is no loss, and the error says so."""

from __future__ import annotations

import pytest

from edgebench import command_run
from edgebench.errors import BenchError, RunFailed, StorageError, WriteFailed
from edgebench.spec import RunOptions


@pytest.mark.parametrize(
    ("raised", "is_resumable"),
    [
        (WriteFailed("a full disk; start again"), True),
        (StorageError("another folder"), False),
        (RunFailed("too hot"), False),
    ],
)
def test_only_a_disk_that_failed_midway_says_resume(
    monkeypatch: pytest.MonkeyPatch, raised: BenchError, is_resumable: bool
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(command_run, "run", fail)
    options = RunOptions()
    with pytest.raises(type(raised), match="^" + str(raised)) as caught:
        command_run.run_command(options, form="md", quiet=True)
    said = str(caught.value).removeprefix(str(raised))
    assert said == ("; --resume goes on with what was measured" if is_resumable else "")
