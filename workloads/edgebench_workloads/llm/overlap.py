"""Whether two texts share a stretch: what a model was calibrated on must not be what is scored.

Two texts overlap where `RUN_TOKENS` tokens in a row of one stand in the other; a text shorter than
that overlaps where all of it does. Phrases, names and boilerplate are shorter; a copied paragraph
is longer, wherever it begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RUN_TOKENS = 32  # ours; a 13-token run is GPT-3's mark of contamination (arXiv 2005.14165, app. C)
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no token's share of a hash is lost


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The runs of one text that stand in another as well."""

    runs: int
    """How many, each beginning at its own token."""
    first: int
    """Where in the first text the first of them begins."""
    in_other: int
    """Where it begins in the other."""
    tokens: int
    """How long each is."""


def shared_runs(ids: NDArray[np.int64], other: NDArray[np.int64]) -> Shared | None:
    """The runs of ids [T] that stand in other [T']; None where there is none, or a text is empty.

    Equal hashes only name candidates; tokens are compared.
    """
    length = min(RUN_TOKENS, len(ids), len(other))
    if length == 0:
        return None
    mine, theirs = _hashes(ids, length), _hashes(other, length)
    order = np.argsort(theirs, kind="stable")
    at = np.searchsorted(theirs, mine, sorter=order).clip(max=len(theirs) - 1)
    candidates = np.flatnonzero(theirs[order[at]] == mine)
    places = order[at[candidates]]
    equal = np.ones(len(candidates), dtype=bool)
    for step in range(length):
        equal &= ids[candidates + step] == other[places + step]
    found = candidates[equal]
    if not len(found):
        return None
    return Shared(
        runs=len(found), first=int(found[0]), in_other=int(places[equal][0]), tokens=length
    )


def _hashes(ids: NDArray[np.int64], length: int) -> NDArray[np.uint64]:
    """A polynomial hash, modulo 2^64, of the run that begins at each token: [T - length + 1]."""
    values = ids.astype(np.uint64) + np.uint64(1)
    count = len(ids) - length + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for step in range(length):
        hashes = hashes * _BASE + values[step : step + count]
    return hashes
