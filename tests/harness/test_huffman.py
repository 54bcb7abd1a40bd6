"""Canonical Huffman codes: near the entropy, decoded to what was coded, closed to bad bits."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench import huffman
from edgebench.errors import BundleError


def drawn(seed: int, count: int, symbols: int) -> huffman.Symbols:
    draws = np.random.default_rng(seed).geometric(0.3, count) - 1
    return np.minimum(draws, symbols - 1).astype(np.uint16)


@pytest.mark.parametrize("count", [1, 7, 8, 4096])
@pytest.mark.parametrize("symbols", [1, 2, 33, 257])
def test_what_is_coded_is_decoded(count: int, symbols: int) -> None:
    given = drawn(count, count, symbols)
    lengths = huffman.code_lengths(np.bincount(given, minlength=symbols).tolist())
    data = huffman.encode(given, lengths)
    assert (huffman.decode(data, lengths, count) == given).all()


def test_bits_lie_between_the_entropy_and_one_more() -> None:
    given = drawn(3, 10_000, 40)
    counts = np.bincount(given)
    lengths = huffman.code_lengths(counts.tolist())
    share = counts[counts > 0] / len(given)
    entropy = float(-(share * np.log2(share)).sum())
    bits = sum(int(n) * length for n, length in zip(counts, lengths, strict=True)) / len(given)
    assert entropy <= bits < entropy + 1


def test_the_example_of_the_deflate_standard() -> None:
    """RFC 1951, section 3.2.2: lengths 3 3 3 3 3 2 4 4 give these codes."""
    found = huffman.codes_of([3, 3, 3, 3, 3, 2, 4, 4])
    expected = ["010", "011", "100", "101", "110", "00", "1110", "1111"]
    assert found == {(len(code), int(code, 2)): n for n, code in enumerate(expected)}


@pytest.mark.parametrize(
    ("data", "lengths", "count", "said"),
    [
        (b"", [1, 1], 1, "no code after"),
        (b"\xff", [1, 0], 1, "no code after"),
        (b"\x00\x00", [1, 1], 3, "nothing but zeros"),
        (b"\x01", [1, 1], 3, "nothing but zeros"),
        (b"\x00", [1, 1, 1], 1, "too short"),
        (b"\x00", [33], 1, "lengths of 0..32"),
    ],
)
def test_bits_that_are_no_codes_are_refused(
    data: bytes, lengths: list[int], count: int, said: str
) -> None:
    with pytest.raises(BundleError, match=said):
        huffman.decode(data, lengths, count)
