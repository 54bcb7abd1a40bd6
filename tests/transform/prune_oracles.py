"""The papers' pruning formulas in float64 and loops, sharing no code with what they judge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def lowest(scores: Array, removed: int) -> set[int]:
    """The places of the lowest scores; of equals the earlier."""
    return set(sorted(range(len(scores)), key=lambda place: (scores[place], place))[:removed])


def zero_lowest(weight: Array, score: Array, kept: int, width: int) -> Array:
    """N:M: of every `width` weights of a row only `kept` stay."""
    out = weight.copy()
    for n in range(weight.shape[0]):
        for first in range(0, weight.shape[1], width):
            for place in lowest(score[n, first : first + width], width - kept):
                out[n, first + place] = 0.0
    return out


def wanda(weight: Array, x: Array, share: float | tuple[int, int]) -> Array:
    """|W| ||X||_2, row by row."""
    score = np.array([[abs(w) * np.linalg.norm(x[:, k]) for k, w in enumerate(r)] for r in weight])
    if isinstance(share, tuple):
        return zero_lowest(weight, score, *share)
    out = weight.copy()
    for n in range(len(out)):
        out[n, list(lowest(score[n], round(share * weight.shape[1])))] = 0.0
    return out


def sparsegpt(
    weight: Array, x: Array, share: float | tuple[int, int], damping: float, block: int
) -> Array:
    """OBS with an explicit H^-1, from which every column is eliminated when it is done.

    Equal to the paper's Cholesky form: U_cc^2 is (H^-1)_cc after the columns before c are gone.
    """
    out = weight.copy()
    hessian = x.T @ x / len(x)
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    hessian += damping * np.diag(hessian).mean() * np.eye(len(hessian))
    inverse = np.linalg.inv(hessian)
    diagonal = np.empty(len(inverse))
    rest = inverse.copy()
    for c in range(len(rest)):
        diagonal[c] = rest[c, c]
        rest -= np.outer(rest[:, c], rest[c]) / rest[c, c]
    keep = np.ones(weight.shape, dtype=bool)
    for c in range(weight.shape[1]):
        if isinstance(share, tuple) and c % share[1] == 0:
            for n in range(len(out)):
                own = out[n, c : c + share[1]] ** 2 / diagonal[c : c + share[1]]
                own[dead[c : c + share[1]]] = 0
                keep[n, [c + p for p in lowest(own, share[1] - share[0])]] = False
        elif not isinstance(share, tuple) and c % block == 0:
            columns = range(c, min(c + block, weight.shape[1]))
            cells = [(n, k) for n in range(len(out)) for k in columns]
            own = np.array([0 if dead[k] else out[n, k] ** 2 / diagonal[k] for n, k in cells])
            for place in lowest(own, round(share * len(cells))):
                keep[cells[place]] = False
        error = np.where(keep[:, c], 0.0, out[:, c]) / inverse[c, c]
        out -= np.outer(error, inverse[c])
        inverse -= np.outer(inverse[:, c], inverse[c]) / inverse[c, c]
    return np.where(keep, out, 0.0)


def energy(x: Array, columns: Array) -> float:
    """|| X W^T ||_F^2 of some inputs [S, k] and the columns [N, k] that read them."""
    return float(sum(np.sum((x @ row) ** 2) for row in columns))


def block_influence(before: Array, after: Array) -> float:
    """1 - mean cosine of hidden states [S, C]."""
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(before, after, strict=True)]
    return 1 - float(np.mean(cosines))
