"""`coded.bin`: bit-exact, no larger than its parts, and closed to strangers' bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from edgebench import coded
from edgebench.errors import BundleError
from edgebench.open_network import describe_network
from edgebench.open_subnet import shapes_of
from edgebench.transform.sharing import k_means, shared
from edgebench_workloads.wake.genome import SMALLEST, make_genome

OTHER = make_genome(min, kernels=[5])


def arrays_of(zeros: float, bits: int | None) -> dict[str, coded.Fp16]:
    draws = np.random.default_rng(11)
    found = {}
    for name, shape in shapes_of(SMALLEST).items():
        array = draws.normal(size=shape).astype(np.float16)
        if len(shape) > 1:
            array[draws.random(shape) < zeros] = 0
            array = array if bits is None else shared(array, bits)
        found[name] = array
    return found


def is_same(left: dict[str, coded.Fp16], right: dict[str, coded.Fp16]) -> bool:
    return left.keys() == right.keys() and all(
        (left[name].view(np.uint16) == right[name].view(np.uint16)).all() for name in left
    )


@pytest.mark.parametrize(
    ("zeros", "bits", "form"),
    [
        (0.0, None, coded.RAW),
        (0.0, 3, coded.EVERY),
        (0.9, 5, coded.GAPS),
        (0.99, 8, coded.GAPS),
    ],
)
def test_a_network_comes_back_bit_by_bit(zeros: float, bits: int | None, form: int) -> None:
    arrays = arrays_of(zeros, bits)
    genome, found = coded.decode(coded.encode(SMALLEST, arrays))
    assert genome == SMALLEST
    assert is_same(found, arrays)
    assert coded.smallest(arrays["head.weight"]).form == form


def test_negative_zeros_and_empty_layers_come_back() -> None:
    arrays = arrays_of(0.8, 4)
    arrays["head.weight"][:] = 0
    arrays["stem.weight"].reshape(-1)[:2] = np.float16(-0.0)
    assert is_same(coded.decode(coded.encode(SMALLEST, arrays))[1], arrays)


def test_long_gaps_take_more_than_one_symbol() -> None:
    weight = np.zeros((1, 200), np.float16)
    weight[0, [3, 150, 151]] = 1
    found = coded.gapped(weight, 2)
    assert found is not None
    assert found.gaps.tolist() == [3, 0] + [3] * 48 + [2, 0]


def test_the_stages_shrink_and_the_entropy_is_below() -> None:
    arrays = arrays_of(0.8, 5)
    network = describe_network(SMALLEST, {}, arrays, coded_for=SMALLEST)
    stages = network.coded
    assert stages is not None
    assert stages.size_bytes == len(coded.encode(SMALLEST, arrays))
    assert stages.reference_bytes == 4 * network.params_total
    assert stages.reference_bytes > stages.pruned_bytes > stages.shared_bytes > stages.entropy_bytes
    assert stages.entropy_bytes < stages.size_bytes
    assert stages.ratio == stages.reference_bytes / stages.size_bytes


def test_k_means_finds_planted_centres() -> None:
    draws = np.random.default_rng(5)
    centres = np.array([-2.0, -0.5, 1.0, 3.0])
    values = np.repeat(centres, 50) + draws.uniform(-0.1, 0.1, 200)
    found, numbers = k_means(values, 4)
    assert np.abs(found - centres).max() < 0.05
    assert (numbers == np.repeat(np.arange(4), 50)).all()


def test_sharing_keeps_zeros_and_counts_values() -> None:
    weight = np.random.default_rng(2).normal(size=(8, 64)).astype(np.float16)
    weight[:, ::2] = 0
    found = shared(weight, 3)
    assert (found[:, ::2] == 0).all()
    assert len(set(found[found != 0].tolist())) <= 8  # np.unique of fp16 is wrong on some CPUs
    assert (shared(found, 3) == found).all()


def test_bytes_that_are_no_file_are_refused() -> None:
    data = coded.encode(SMALLEST, arrays_of(0.8, 5))
    with pytest.raises(BundleError, match="in front"):
        coded.decode(b"X" + data[1:])
    with pytest.raises(BundleError, match="bytes more"):
        coded.decode(data[:-1])
    with pytest.raises(BundleError, match="no bytes behind"):
        coded.decode(data + b"\0")
    with pytest.raises(BundleError, match="a header of"):
        coded.decode(data[:5] + struct.pack("<I", 1 << 30) + data[9:])
    other = coded.encode(OTHER, {n: np.zeros(s, np.float16) for n, s in shapes_of(OTHER).items()})
    with pytest.raises(BundleError):
        coded.decode(other[: other.index(b"}}") + 2] + data[data.index(b"}}") + 2 :])


def test_no_damaged_byte_does_more_than_raise() -> None:
    """Every error is the reader's own, whatever byte is hit."""
    data = bytearray(coded.encode(SMALLEST, arrays_of(0.9, 2)))
    for place in np.random.default_rng(0).integers(0, len(data), 60).tolist():
        damaged = bytes(data[:place]) + bytes([data[place] ^ 0x55]) + bytes(data[place + 1 :])
        try:
            coded.decode(damaged)
        except BundleError:
            continue
