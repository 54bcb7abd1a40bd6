"""The smallest bundles that keep every rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.harness.checker.conftest import Maker


def test_single_stream_passes(maker: Maker) -> None:
    assert maker.findings() == []


def test_offline_passes(offline: Maker) -> None:
    assert offline.findings() == []
