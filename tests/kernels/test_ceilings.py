"""Ceilings: what is returned, not how fast this machine is."""

from __future__ import annotations

import pytest

from edgebench_kernels import ceilings, native


@pytest.mark.native
@pytest.mark.usefixtures("restored_native")
@pytest.mark.parametrize("ceiling", ["read_bandwidth", "int8", "fp32"])
def test_every_isa_has_the_common_ceilings(ceiling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "BUDGET_NS", 2_000_000)
    monkeypatch.setattr(ceilings, "buffer_bytes", lambda: 4 << 20)
    ceilings.release()
    for isa in native.supported_isas():
        native.force_isa(isa)
        for threads in (1, 2):
            sample = ceilings.measure(ceiling, threads)
            assert (sample.ceiling, sample.threads) == (ceiling, threads)
            assert sample.value > 0
            assert sample.instruction
    ceilings.release()


@pytest.mark.native
@pytest.mark.usefixtures("restored_native")
def test_threads_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "BUDGET_NS", 1_000_000)
    native.set_threads(2)
    assert ceilings.measure("int8", 3).threads == 3
    assert native.threads() == 2


@pytest.mark.native
@pytest.mark.usefixtures("restored_native")
def test_a_missing_instruction_is_unavailable_with_its_reason() -> None:
    native.force_isa("scalar")
    with pytest.raises(native.Unavailable, match="no bf16 instruction with scalar kernels"):
        ceilings.measure("bf16")


def test_an_unknown_ceiling_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="read_bandwidth, int8, bf16, fp32, got 'fp8'"):
        ceilings.measure("fp8")


@pytest.mark.parametrize(
    ("cache_bytes", "expected"),
    [
        (None, 128 << 20),
        (1 << 20, 128 << 20),
        (64 << 20, 256 << 20),
        (33 << 20, 132 << 20),
        (1 << 30, 1 << 30),
    ],
)
def test_buffer_is_four_caches_within_limits(
    monkeypatch: pytest.MonkeyPatch, cache_bytes: int | None, expected: int
) -> None:
    monkeypatch.setattr(ceilings, "last_level_cache_bytes", lambda: cache_bytes)
    assert ceilings.buffer_bytes() == expected


@pytest.mark.parametrize(("text", "size"), [("32K\n", 32768), ("8M", 8 << 20), ("", 0), ("?", 0)])
def test_cache_sizes_are_parsed(text: str, size: int) -> None:
    assert ceilings._parse_size(text) == size


@pytest.mark.parametrize(
    ("cache_mib", "cached_mib", "expected_mib"),
    [
        (32, 0, 128),  # 4 caches: nothing is measured
        (300, 128, 256),  # the part of a socket's cache that this machine gets is used up
        (300, 256, 512),
        (300, 900, 1024),  # never more than the largest buffer
        (80, 300, 320),  # nor than 4 caches
    ],
)
def test_rotated_bytes_are_as_slow_as_memory(
    monkeypatch: pytest.MonkeyPatch, cache_mib: int, cached_mib: int, expected_mib: int
) -> None:
    monkeypatch.setattr(ceilings, "last_level_cache_bytes", lambda: cache_mib << 20)
    monkeypatch.setattr(
        ceilings,
        "_median_bandwidth",
        lambda size: 40.0 if size <= cached_mib << 20 else 25.0,
    )
    assert ceilings.bytes_past_cache() == expected_mib << 20
