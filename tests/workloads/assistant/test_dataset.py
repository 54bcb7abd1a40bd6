"""The splits: what is pinned stays, and no call is in two of them."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from itertools import islice
from typing import Any

import pytest

from edgebench_workloads.assistant import dataset

FILES = resources.files("edgebench_workloads.assistant")


@pytest.fixture(scope="module")
def pinned() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(FILES.joinpath("hashes.json").read_text())
    return facts


@pytest.mark.parametrize(("split", "size"), [("scored", 1000), ("calibration", 256)])
def test_shipped_files_are_what_the_grammar_makes(split: str, size: int) -> None:
    """Regenerate with `python -m edgebench_workloads.assistant.freeze`."""
    made = dataset.to_jsonl(dataset.held_out(split, size))
    assert made == FILES.joinpath(f"{split}.jsonl").read_bytes()


def test_hashes_are_the_pinned_ones(pinned: dict[str, Any]) -> None:
    training = dataset.training_pairs(dataset.HASHED_TRAINING_COUNT)
    assert dataset.pairs_sha256(dataset.scored_pairs()) == pinned["scored_sha256"]
    assert dataset.pairs_sha256(dataset.calibration_pairs()) == pinned["calibration_sha256"]
    assert dataset.pairs_sha256(training) == pinned["training_100000_sha256"]


def test_the_baseline_leaves_room(pinned: dict[str, Any]) -> None:
    for place in ("scored", "training_stream"):
        assert pinned["nearest_neighbor_100000"][place]["exact_match_percent"] <= 60.0


def test_counts_and_distinctness() -> None:
    scored, calibration = dataset.scored_pairs(), dataset.calibration_pairs()
    assert (len(scored), len(calibration)) == (1000, 256)
    assert len({p.call for p in scored}) == len({p.command for p in scored}) == 1000
    assert len({p.call for p in calibration}) == 256


def test_no_call_is_in_two_splits() -> None:
    training = {p.call for p in dataset.training_pairs(50_000)}
    held = {s: {p.call for p in dataset.held_out(s, 500)} for s in dataset.SPLITS if s != "train"}
    held["scored"] |= {p.call for p in dataset.scored_pairs()}
    held["calibration"] |= {p.call for p in dataset.calibration_pairs()}
    sets = [training, *held.values()]
    assert len(set().union(*sets)) == sum(map(len, sets))


def test_buckets_cover_each_call_once() -> None:
    covered = [b for buckets in dataset.SPLITS.values() for b in buckets]
    assert sorted(covered) == list(range(dataset.BUCKETS))


def test_the_bucket_is_the_hash_of_the_call() -> None:
    call = '{"fn":"lock","door":"shed","time":"22:00"}'
    first = int(hashlib.sha256(call.encode()).hexdigest()[:16], 16)
    assert dataset.bucket(call) == first % 64


def test_an_example_depends_on_its_index_alone() -> None:
    start = list(islice(dataset.stream("train"), 30))
    assert dataset.training_pairs(10, start=20) == start[20:]
    assert dataset.pair("train", 25) == start[25]
    assert dataset.pair("train", 25, seed=1) != start[25]


def test_jsonl_round_trip_and_hash() -> None:
    pairs = dataset.training_pairs(5)
    data = dataset.to_jsonl(pairs)
    assert dataset.from_jsonl(data) == pairs
    assert dataset.pairs_sha256(pairs) == hashlib.sha256(data).hexdigest()
    assert data.count(b"\n") == 5


def test_unseen_pairs_are_in_no_set_and_of_their_seed() -> None:
    fresh, again, others = (dataset.unseen_pairs(200, seed) for seed in (7, 7, 8))
    assert fresh == again
    assert fresh != others
    calls = {pair.call for pair in fresh}
    assert len(calls) == 200
    shipped = dataset.scored_pairs() + dataset.calibration_pairs()
    assert not calls & {pair.call for pair in shipped}
    assert all(dataset.bucket(call) in dataset.SPLITS["scored"] for call in calls), (
        "none trained on"
    )


def test_the_published_seed_gives_unseen_pairs_too() -> None:
    """Its stream begins with the scored set itself."""
    (fresh,) = dataset.unseen_pairs(1, dataset.SEED)
    assert fresh.call not in {pair.call for pair in dataset.scored_pairs()}
