"""What two texts share: copied stretches are found wherever they begin, chance is not."""

from __future__ import annotations

import numpy as np
import pytest

from edgebench_workloads.llm.overlap import RUN_TOKENS, shared_runs


def tokens(seed: int, count: int, vocabulary: int = 5000) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, vocabulary, count)


@pytest.mark.parametrize(("at", "other"), [(0, 0), (0, 100), (317, 0), (311, 468)])
def test_a_copied_run_is_found_where_it_is(at: int, other: int) -> None:
    mine, theirs = tokens(1, 400), tokens(2, 500)
    theirs[other : other + RUN_TOKENS] = mine[at : at + RUN_TOKENS]
    shared = shared_runs(mine, theirs)
    assert shared is not None
    assert (shared.runs, shared.first, shared.in_other) == (1, at, other)
    assert shared.tokens == RUN_TOKENS


def test_one_token_less_is_no_overlap() -> None:
    mine, theirs = tokens(1, 400), tokens(2, 500)
    theirs[50 : 50 + RUN_TOKENS - 1] = mine[9 : 9 + RUN_TOKENS - 1]
    assert shared_runs(mine, theirs) is None


def test_every_run_counts() -> None:
    """A stretch of 100 tokens holds 100 - 32 + 1 runs."""
    mine, theirs = tokens(1, 400), tokens(2, 500)
    theirs[200:300] = mine[100:200]
    shared = shared_runs(mine, theirs)
    assert shared is not None
    assert shared.runs == 100 - RUN_TOKENS + 1


def test_a_short_text_overlaps_where_all_of_it_stands_in_the_other() -> None:
    text = tokens(3, 500)
    shared = shared_runs(text[40:50], text)
    assert shared is not None
    assert (shared.runs, shared.first, shared.in_other, shared.tokens) == (1, 0, 40, 10)
    assert shared_runs(text[40:50][::-1], text) is None
    assert shared_runs(text[:0], text) is None


def test_brute_force_agrees() -> None:
    """Two tokens only, so that long runs happen by chance and hashes meet."""
    for seed in range(30):
        mine, theirs = tokens(seed, 300, 2), tokens(1000 + seed, 300, 2)
        if seed % 2:
            theirs[20:60] = mine[200:240]
        known = {tuple(theirs[i : i + RUN_TOKENS]) for i in range(300 - RUN_TOKENS + 1)}
        expected = [
            i for i in range(300 - RUN_TOKENS + 1) if tuple(mine[i : i + RUN_TOKENS]) in known
        ]
        shared = shared_runs(mine, theirs)
        assert (0 if shared is None else shared.runs) == len(expected)
        if shared is not None:
            assert shared.first == expected[0]
