"""The nearest-neighbour baseline: what copying the most similar training example is worth."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import log

from edgebench_workloads.assistant.dataset import Pair


class NearestNeighbor:
    """Answers with the call of the nearest training command.

    Nearest by cosine of the TF-IDF bags of words, idf = ln(commands / commands with the word) + 1.
    """

    __slots__ = ("_calls", "_idf", "_postings")

    def __init__(self, training: Sequence[Pair]) -> None:
        bags = [Counter(p.command.split()) for p in training]
        seen = Counter(word for bag in bags for word in bag)
        self._calls = [p.call for p in training]
        self._idf = {word: log(len(bags) / n) + 1.0 for word, n in seen.items()}
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for row, bag in enumerate(bags):
            for word, weight in self._unit(bag).items():
                self._postings[word].append((row, weight))

    def _unit(self, bag: Counter[str]) -> dict[str, float]:
        weights = {word: n * self._idf[word] for word, n in bag.items() if word in self._idf}
        norm = sum(w * w for w in weights.values()) ** 0.5
        return {word: w / norm for word, w in weights.items()}

    def answer(self, command: str) -> str:
        """The nearest command's call; the earliest wins a tie or when no word is known."""
        scores: dict[int, float] = defaultdict(float)
        for word, weight in self._unit(Counter(command.split())).items():
            for row, other in self._postings[word]:
                scores[row] += weight * other
        return self._calls[max(scores, key=lambda row: (scores[row], -row), default=0)]
