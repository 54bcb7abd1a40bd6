"""The splits: an endless training stream, and held-out sets that share no call with it.

A call's SHA-256 modulo 64 says where it may occur: 0-1 scored, 2 calibration, 3 validation, the
rest training. So no combination of function and argument values is in two splits, however long the
training stream is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import count, islice

from edgebench_workloads.assistant.grammar import draw_request, encode_call, say
from edgebench_workloads.draws import Draws

SEED = 2025
BUCKETS = 64
SPLITS: dict[str, range] = {
    "scored": range(0, 2),
    "calibration": range(2, 3),
    "validation": range(3, 4),
    "train": range(4, BUCKETS),
}
SCORED_COUNT = 1000
CALIBRATION_COUNT = 256
HASHED_TRAINING_COUNT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What was said, beside the one call that it asks for as canonical JSON."""

    command: str
    call: str


def bucket(call: str) -> int:
    """The bucket of a canonical call, in [0, BUCKETS)."""
    return int.from_bytes(hashlib.sha256(call.encode()).digest()[:8], "big") % BUCKETS


def pair(split: str, index: int, seed: int = SEED) -> Pair:
    """Example `index` of a split: a pure function of its arguments."""
    if split not in SPLITS:
        raise KeyError(
            f"[assistant/dataset] split must be one of {', '.join(SPLITS)}, got {split!r}"
        )
    draws = Draws(f"edgebench-assistant/{seed}/{split}/{index}")
    while True:
        request = draw_request(draws)
        call = encode_call(request.call())
        if bucket(call) in SPLITS[split]:
            return Pair(command=say(request, draws), call=call)


def stream(split: str, start: int = 0, seed: int = SEED) -> Iterator[Pair]:
    """Examples start, start + 1, ... of a split; endless, and commands may recur."""
    return (pair(split, index, seed) for index in count(start))


def held_out(split: str, size: int) -> list[Pair]:
    """The first `size` examples of a split whose calls differ from one another."""
    first: dict[str, Pair] = {}
    for example in stream(split):
        first.setdefault(example.call, example)
        if len(first) == size:
            return list(first.values())
    raise AssertionError("unreachable: the stream is endless")


def unseen_pairs(size: int, seed: int) -> list[Pair]:
    """Fresh pairs of a seed's own, whose calls are in no shipped set, in training, or twice here.

    Drawn from the scored split's share of all calls, as the scored set was; for audits.
    """
    scored = {example.call for example in scored_pairs()}
    fresh: dict[str, Pair] = {}
    for example in stream("scored", seed=seed):
        if example.call not in scored:
            fresh.setdefault(example.call, example)
        if len(fresh) == size:
            return list(fresh.values())
    raise AssertionError("unreachable: the stream is endless")


def training_pairs(size: int, start: int = 0) -> list[Pair]:
    """Examples start, ..., start + size - 1 of the training stream."""
    return list(islice(stream("train", start), size))


def scored_pairs() -> list[Pair]:
    """The 1,000 scored pairs as shipped; `held_out("scored", 1000)` makes the same."""
    return _shipped("scored.jsonl")


def calibration_pairs() -> list[Pair]:
    """The 256 calibration pairs as shipped; `held_out("calibration", 256)` makes the same."""
    return _shipped("calibration.jsonl")


def to_jsonl(pairs: Iterable[Pair]) -> bytes:
    """The canonical bytes: {"command":...,"call":...} and "\\n" per pair, ASCII, no spaces."""
    rows = ({"command": p.command, "call": p.call} for p in pairs)
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode("ascii")


def from_jsonl(data: bytes) -> list[Pair]:
    """The pairs that `to_jsonl` wrote."""
    return [Pair(**json.loads(line)) for line in data.splitlines()]


def pairs_sha256(pairs: Iterable[Pair]) -> str:
    """Hex SHA-256 of the canonical bytes."""
    return hashlib.sha256(to_jsonl(pairs)).hexdigest()


def _shipped(name: str) -> list[Pair]:
    return from_jsonl(resources.files("edgebench_workloads.assistant").joinpath(name).read_bytes())
