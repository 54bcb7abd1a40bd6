"""`coded.bin`: a network of images pruned, shared and Huffman coded; decodes to the same bits.

Deep Compression (Han et al., ICLR 2016, sections 2 to 4), every byte counted:

    magic 5 bytes | u32 size, JSON {"genome": ..} | for each layer: its weight, its bias (fp16)

    weight  u8 form | u16 values V | u32 entries E | V fp16 values, ascending in bits | streams
            RAW     every weight in fp16, no values; E weights
            EVERY   a stream of E value numbers, one a weight
            GAPS    a stream of zeros in front, and one of E value numbers of what is not zero;
                    u8 gap bits stand before them. The highest gap goes on without a value.
    stream  u16 symbols S | S u8 code lengths | u32 symbols in all | u32 bytes | bits

A weight takes the form that makes it smallest. Integers and fp16 are little-endian. Needs no torch.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgebench import huffman
from edgebench.errors import BundleError
from edgebench_workloads.wake.genome import Genome, genome_from_json, layers

MAGIC = b"EBDC\x01"
RAW, EVERY, GAPS = 0, 1, 2
MAX_VALUES = 257
"""Of a weight that is shared: 8 bits, and zero."""
GAP_BITS = (2, 3, 4, 5, 6)
MAX_HEADER_BYTES = 4096
MAX_WEIGHTS = 1 << 20
"""Of one layer; the largest of the space has 24,576."""

Fp16 = npt.NDArray[np.float16]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """One weight as it is coded; bits of a code of fixed size in front of Huffman's."""

    form: int
    values: npt.NDArray[np.uint16]
    """The distinct values by their bits; empty where raw."""
    numbers: huffman.Symbols
    gaps: huffman.Symbols
    gap_bits: int
    raw: bytes

    @property
    def count(self) -> int:
        """Values that are coded: all weights, or those that are not zero."""
        return len(self.raw) // 2 if self.form == RAW else len(self.numbers)

    @property
    def value_bits(self) -> int:
        """Of one value's number at a fixed size."""
        return max(1, (len(self.values) - 1).bit_length())

    def encoded(self) -> bytes:
        """As it stands in the file."""
        head = struct.pack("<BHI", self.form, len(self.values), self.count)
        if self.form == RAW:
            return head + self.raw
        body = self.values.astype("<u2").tobytes()
        if self.form == GAPS:
            body += bytes([self.gap_bits]) + _stream(self.gaps, 1 << self.gap_bits)
        return head + body + _stream(self.numbers, len(self.values))


def encode(genome: Genome, arrays: Mapping[str, Fp16]) -> bytes:
    """The whole file of a network's fp16 tensors by name; the same bytes whenever it is asked."""
    header = json.dumps({"genome": genome.as_json()}, separators=(",", ":")).encode()
    parts = [MAGIC, struct.pack("<I", len(header)), header]
    for layer in layers(genome):
        parts.append(smallest(arrays[f"{layer.name}.weight"]).encoded())
        parts.append(_little(arrays[f"{layer.name}.bias"]))
    return b"".join(parts)


def decode(data: bytes) -> tuple[Genome, dict[str, Fp16]]:
    """What encode was given; BundleError where the bytes are no such file."""
    reader = _Reader(data)
    if reader.take(len(MAGIC)) != MAGIC:
        raise BundleError(f"[coded.bin] expected {MAGIC!r} in front, got others")
    size = reader.number("<I")
    if size > MAX_HEADER_BYTES:
        raise BundleError(f"[coded.bin] expected a header of {MAX_HEADER_BYTES} bytes, got {size}")
    try:
        genome = genome_from_json(json.loads(reader.take(size))["genome"])
    except (ValueError, KeyError, TypeError) as err:
        raise BundleError(f"[coded.bin] expected a genome, got {err}") from err
    found: dict[str, Fp16] = {}
    for layer in layers(genome):
        shape = (layer.outputs, layer.inputs // layer.groups, layer.kernel, layer.kernel)
        found[f"{layer.name}.weight"] = _weight(reader, layer.weights).reshape(shape)
        found[f"{layer.name}.bias"] = reader.array("<f2", layer.outputs).astype(np.float16)
    reader.end()
    return genome, found


def smallest(weight: Fp16) -> Streams:
    """The form of one weight that takes the fewest bytes."""
    return min(_forms(weight), key=lambda one: len(one.encoded()))


def _forms(weight: Fp16) -> Iterator[Streams]:
    bits = np.ascontiguousarray(weight).view(np.uint16).reshape(-1)
    none = np.zeros(0, np.uint16)
    yield Streams(form=RAW, values=none, numbers=none, gaps=none, gap_bits=0, raw=_little(weight))
    values, numbers = np.unique(bits, return_inverse=True)
    if len(values) > MAX_VALUES:
        return
    yield Streams(
        form=EVERY, values=values, numbers=numbers.astype(np.uint16), gaps=none, gap_bits=0, raw=b""
    )
    yield from (gaps for each in GAP_BITS if (gaps := gapped(weight, each)) is not None)


def gapped(weight: Fp16, gap_bits: int) -> Streams | None:
    """A weight as gaps and what is not zero; None where all of it is zero."""
    bits = np.ascontiguousarray(weight).view(np.uint16).reshape(-1)
    places = np.flatnonzero(bits)
    if not len(places):
        return None
    values, numbers = np.unique(bits[places], return_inverse=True)
    zeros = np.diff(places, prepend=-1) - 1
    most = (1 << gap_bits) - 1
    # `most` zeros and no value, as often as they fit; then what is left, and a value.
    skips = zeros // most
    gaps = np.full(len(places) + int(skips.sum()), most, np.uint16)
    gaps[np.cumsum(skips + 1) - 1] = zeros % most
    return Streams(
        form=GAPS,
        values=values,
        numbers=numbers.astype(np.uint16),
        gaps=gaps,
        gap_bits=gap_bits,
        raw=b"",
    )


def _stream(symbols: huffman.Symbols, count: int) -> bytes:
    lengths = huffman.code_lengths(np.bincount(symbols, minlength=count).tolist())
    data = huffman.encode(symbols, lengths)
    head = struct.pack("<H", count) + bytes(lengths)
    return head + struct.pack("<II", len(symbols), len(data)) + data


def _little(array: npt.NDArray[np.generic]) -> bytes:
    return array.astype("<f2").tobytes()


def _weight(reader: _Reader, count: int) -> Fp16:
    """One weight of so many values, flat."""
    form, size, entries = reader.number("<B"), reader.number("<H"), reader.number("<I")
    if count > MAX_WEIGHTS or entries > count or size > MAX_VALUES:
        raise BundleError(f"[coded.bin] expected {count} weights, got {entries} of {size} values")
    if form == RAW and entries == count:
        return reader.array("<f2", count).astype(np.float16)
    values = reader.array("<u2", size).astype(np.uint16)
    found = np.zeros(count, np.uint16)
    if form == EVERY and entries == count:
        found[:] = _valued(values, reader.stream(size, count, count))
    elif form == GAPS:
        gap_bits = reader.number("<B")
        if gap_bits not in GAP_BITS:
            raise BundleError(f"[coded.bin] expected gaps of {GAP_BITS} bits, got {gap_bits}")
        places = _places(reader.stream(1 << gap_bits, 0, count), gap_bits)
        if len(places) != entries or (entries and places[-1] >= count):
            raise BundleError(f"[coded.bin] expected {entries} places below {count}, got others")
        found[places] = _valued(values, reader.stream(size, entries, entries))
    else:
        raise BundleError(f"[coded.bin] expected a form of a weight, got {form} and {entries}")
    return found.view(np.float16)


def _places(gaps: huffman.Symbols, gap_bits: int) -> npt.NDArray[np.int64]:
    most = (1 << gap_bits) - 1
    has_value = gaps != most
    ends = np.cumsum(gaps.astype(np.int64) + has_value)
    places: npt.NDArray[np.int64] = ends[has_value] - 1
    return places


def _valued(values: npt.NDArray[np.uint16], numbers: huffman.Symbols) -> npt.NDArray[np.uint16]:
    return values[numbers]


class _Reader:
    """Bytes from front to end; BundleError where they are too few."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) != size:
            raise BundleError(f"[coded.bin] expected {size} bytes more, got {len(found)}")
        self._at += size
        return found

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def array(self, dtype: str, count: int) -> npt.NDArray[np.generic]:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)

    def stream(self, symbols: int, least: int, most: int) -> huffman.Symbols:
        """Between `least` and `most` numbers below `symbols`."""
        came = self.number("<H")
        if came != symbols:
            raise BundleError(f"[coded.bin] expected codes of {symbols} symbols, got {came}")
        lengths = list(self.take(symbols))
        count, size = self.number("<I"), self.number("<I")
        if not least <= count <= most:
            raise BundleError(f"[coded.bin] expected {least}..{most} symbols, got {count}")
        return huffman.decode(self.take(size), lengths, count)

    def end(self) -> None:
        left = len(self._data) - self._at
        if left:
            raise BundleError(f"[coded.bin] expected no bytes behind the last layer, got {left}")
