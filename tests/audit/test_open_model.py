"""An audit builds the open track's model again, and stands by its tensors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgebench.audit import premises
from edgebench.errors import RuleViolation
from edgebench.transform.quantized import Folded
from edgebench_kernels.formats import tensor_sha256
from tests.harness.checker.conftest import Maker


def ledger(tensors: dict[str, str], kept: dict[str, str] | None) -> Any:
    model = None if kept is None else SimpleNamespace(kept=kept)
    return SimpleNamespace(tensors=tensors, folded={}, steps=[], open_model=model)


@pytest.mark.parametrize("here", [{"a": "1" * 64}, {"a": "2" * 64}, None], ids=str)
def test_the_open_model_must_come_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: dict[str, str] | None
) -> None:
    tensors = Maker(tmp_path).tensors
    hashes = {name: tensor_sha256(tensor) for name, tensor in tensors.items()}
    asked: list[str] = []

    def prepare(name: str, transform: Any, *_: Any) -> Any:
        asked.append(str(transform))
        quantized = SimpleNamespace(tensors=tensors, folded=Folded())
        return SimpleNamespace(quantized=quantized, ledger=ledger(hashes, here))

    monkeypatch.setattr(premises, "prepare", prepare)
    monkeypatch.setattr(premises, "require_text", lambda made, _what: made)
    result = SimpleNamespace(kernel="open", transform="prune:layers=1")
    record = SimpleNamespace(results=[result], workload=SimpleNamespace(name="assistant"))
    claimed = ledger(hashes, {"a": "1" * 64})
    bundle: Any = SimpleNamespace(
        record=record, ledger=claimed, tensors_path=None, folded_path=None
    )
    if here == {"a": "1" * 64}:
        assert premises._prepare(bundle, premises.Given(), None).ledger.open_model.kept == here  # type: ignore[arg-type]
    else:
        with pytest.raises(RuleViolation, match="1 other tensors, such as a"):
            premises._prepare(bundle, premises.Given(), None)  # type: ignore[arg-type]
    assert asked == ["prune:layers=1"]
