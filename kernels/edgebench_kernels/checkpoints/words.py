"""Eight 4-bit codes in one 32-bit word, lowest nibble first: what every 4-bit checkpoint stores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PER_WORD = 8
_SHIFTS = np.arange(0, 32, 4, dtype=np.uint32)


def unpack_words(words: NDArray[np.int32]) -> NDArray[np.uint8]:
    """int32 [..., W] -> codes uint8 [..., 8 W]; code 8 w + i is nibble i of word w."""
    unsigned = np.ascontiguousarray(words).view(np.uint32)
    nibbles = (unsigned[..., None] >> _SHIFTS).astype(np.uint8) & np.uint8(15)
    return nibbles.reshape(*words.shape[:-1], -1)


def pack_words(codes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """codes uint8 [..., 8 W] in 0..15 -> int32 [..., W], the inverse of `unpack_words`."""
    split = codes.reshape(*codes.shape[:-1], -1, PER_WORD).astype(np.uint32) << _SHIFTS
    return np.bitwise_or.reduce(split, axis=-1, dtype=np.uint32).view(np.int32)
