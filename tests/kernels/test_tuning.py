"""Tuning: the choices follow from the times, what was chosen is in use, results do not change."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_kernels import native, tuning
from edgebench_kernels.formats import choose_group
from edgebench_kernels.packing import PackedInt4, linear
from edgebench_kernels.quantize import quantize_rtn

pytestmark = pytest.mark.native


@pytest.mark.parametrize(
    ("times_ns", "default", "chosen"),
    [
        ({0: 100.0, 1024: 99.0, 8192: 120.0}, 0, 0),  # within the margin: the default stays
        ({0: 100.0, 1024: 90.0, 8192: 80.0}, 0, 8192),
        ({0: 100.0, 1024: 90.0}, 4096, 1024),  # a default that was not tried cannot stay
    ],
)
def test_prefetch_is_the_fastest_beyond_noise(
    times_ns: dict[int, float], default: int, chosen: int
) -> None:
    assert tuning.choose_prefetch(times_ns, default) == chosen


@pytest.mark.parametrize(
    ("times_ns", "chosen"),
    [
        ({2: (10.0, 20.0), 4: (20.0, 21.0), 6: (30.0, 22.0), 8: (20.0, 30.0)}, 4),
        ({2: (10.0, 20.0), 4: (20.2, 20.0)}, 4),  # within the margin
        ({2: (20.0, 10.0)}, 1),
        ({}, 1),
    ],
)
def test_few_ends_where_unpacking_wins(
    times_ns: dict[int, tuple[float, float]], chosen: int
) -> None:
    assert tuning.choose_few(times_ns) == chosen


def test_measure_leaves_the_library_as_it_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "LARGEST_BYTES", 1 << 20)
    monkeypatch.setattr(tuning, "CROSSOVER_OUTPUTS", 64)
    monkeypatch.setattr(tuning, "ROUNDS", 1)
    before = native.prefetch_bytes(), {path: native.few_tokens(path) for path in native.FAMILIES}
    try:
        found = tuning.measure()
        assert native.prefetch_bytes() == found.prefetch_bytes
        assert {path: native.few_tokens(path) for path in native.FAMILIES} == found.few_tokens
        assert (found.isa, found.threads) == (native.isa(), native.threads())
    finally:
        native.set_prefetch_bytes(before[0])
        for path, tokens in before[1].items():
            native.set_few_tokens(path, tokens)


@pytest.mark.parametrize("path", list(native.FAMILIES))
def test_the_crossover_changes_no_result_beyond_rounding(path: str) -> None:
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((130, 256), np.float32)
    packed = PackedInt4(quantize_rtn(weight, choose_group(256)))
    x = rng.standard_normal((4, 256), np.float32)
    before = native.few_tokens(path)
    try:
        native.set_few_tokens(path, 1)
        unpacked = linear(packed, x, path)
        native.set_few_tokens(path, 4)
        nibbles = linear(packed, x, path)
    finally:
        native.set_few_tokens(path, before)
    assert np.abs(unpacked - nibbles).max() <= 1e-5 * np.abs(unpacked).max()


def test_affinity_takes_cpus_of_this_process_only() -> None:
    try:
        native.set_affinity(native.usable_cpus()[:1])
        assert native.pool_wakeup_ns() > 0
        with pytest.raises(ValueError, match="this process may not use such a CPU"):
            native.set_affinity((1_000_000,))
        with pytest.raises(ValueError, match="this process may not use such a CPU"):
            native.set_affinity((-1,))
    finally:
        native.set_affinity(())


def test_the_pool_wakes_up_with_every_number_of_threads() -> None:
    before = native.threads()
    try:
        for threads in (1, 2, 3):
            native.set_threads(threads)
            assert native.pool_wakeup_ns() >= 0
    finally:
        native.set_threads(before)
