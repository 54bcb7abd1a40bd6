"""Tuning before a run: measured in a process of its own, applied here; its failure is said."""

from __future__ import annotations

import pytest

from edgebench import kernel_tuning
from edgebench.errors import RunFailed
from edgebench_kernels import native

pytestmark = pytest.mark.native


def test_what_was_chosen_is_in_use() -> None:
    before = native.prefetch_bytes(), {path: native.few_tokens(path) for path in native.FAMILIES}
    try:
        tuning = kernel_tuning.tune_kernels()
        kernel_tuning.apply_tuning(tuning)
        assert native.prefetch_bytes() == tuning.prefetch_bytes
        assert {path: native.few_tokens(path) for path in native.FAMILIES} == tuning.few_tokens
    finally:
        native.set_prefetch_bytes(before[0])
        for path, tokens in before[1].items():
            native.set_few_tokens(path, tokens)


def test_a_failed_tuning_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tuning, "MODULE", "edgebench_kernels.no_such_module")
    with pytest.raises(RunFailed, match=r"could not be tuned: .*no_such_module"):
        kernel_tuning.tune_kernels()
