"""Canonical Huffman codes: each symbol of a stream in as few whole bits as a prefix code allows.

Lengths alone name a code: symbols of equal length count upwards, and each longer length begins
where the shorter ones end (Schwartz and Kallick, 1964; DEFLATE, RFC 1951, section 3.2.2). Bits go
highest first. Needs numpy only.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgebench.errors import BundleError

MAX_LENGTH = 32
"""Bits; Fibonacci's counts need more than five million symbols for a longer one."""

Symbols = npt.NDArray[np.uint16]


def code_lengths(counts: Sequence[int]) -> list[int]:
    """Bits of each symbol, 0 where it does not occur; a symbol that is alone takes one."""
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (count, symbol, (symbol,)) for symbol, count in enumerate(counts) if count
    ]
    lengths = [0] * len(counts)
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        few, first, left = heapq.heappop(heap)
        more, second, right = heapq.heappop(heap)
        for symbol in (*left, *right):
            lengths[symbol] += 1
        heapq.heappush(heap, (few + more, min(first, second), (*left, *right)))
    return lengths


def codes_of(lengths: Sequence[int]) -> dict[tuple[int, int], int]:
    """(length, code) -> symbol; BundleError for lengths that no prefix code has."""
    if any(not 0 <= length <= MAX_LENGTH for length in lengths):
        raise BundleError(f"[huffman] expected lengths of 0..{MAX_LENGTH}, got {max(lengths)}")
    used = sorted((length, symbol) for symbol, length in enumerate(lengths) if length)
    found, code, before = {}, 0, 0
    for length, symbol in used:
        code <<= length - before
        if code >> length:
            raise BundleError("[huffman] expected lengths of a prefix code, got too short ones")
        found[length, code] = symbol
        code, before = code + 1, length
    return found


def encode(symbols: Symbols, lengths: Sequence[int]) -> bytes:
    """The symbols' codes one after the other, filled with zeros to a whole byte."""
    word = {symbol: f"{code:0{length}b}" for (length, code), symbol in codes_of(lengths).items()}
    bits = "".join(word[symbol] for symbol in symbols.tolist())
    if not bits:
        return b""
    return np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord("0")).tobytes()


def decode(data: bytes, lengths: Sequence[int], count: int) -> Symbols:
    """`count` symbols; BundleError where the bits are no codes, too few, or too many."""
    known = codes_of(lengths)
    found = np.zeros(count, np.uint16)
    code = length = done = place = 0
    bits = np.unpackbits(np.frombuffer(bytearray(data), np.uint8)).tolist()
    while done < count:
        if place == len(bits) or length == MAX_LENGTH:
            raise BundleError(f"[huffman] expected {count} symbols, got {done} and no code after")
        code, length, place = 2 * code + bits[place], length + 1, place + 1
        symbol = known.get((length, code))
        if symbol is not None:
            found[done] = symbol
            code, length, done = 0, 0, done + 1
    if len(bits) - place >= 8 or any(bits[place:]):
        raise BundleError("[huffman] expected nothing but zeros to the next byte, got more")
    return found
