"""A stream of deterministic choices that is a pure function of its name.

Random numbers come from BLAKE2b in counter mode, so that no library version and no platform can
change the data set: block b of stream NAME is blake2b("NAME/b") with its 64-byte digest, read as
sixteen little-endian 32-bit words that are used from the last to the first.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_WORDS = struct.Struct("<16I")


class Draws:
    """Successive uniform choices from the named stream; the only state is the position in it."""

    __slots__ = ("_block", "_name", "_words")

    def __init__(self, name: str) -> None:
        self._name = name
        self._block = 0
        self._words: list[int] = []

    def below(self, count: int) -> int:
        """An integer in [0, count); multiply-shift, so its bias is below count / 2**32."""
        if not self._words:
            digest = hashlib.blake2b(f"{self._name}/{self._block}".encode()).digest()
            self._words = list(_WORDS.unpack(digest))
            self._block += 1
        return (self._words.pop() * count) >> 32

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 cases."""
        return self.below(100) < percent

    def choose(self, options: Sequence[T]) -> T:
        """One of the options, each equally likely."""
        return options[self.below(len(options))]
