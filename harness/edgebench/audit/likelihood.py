"""The likelihood that a bundle filed, held against the logits that its engine gives here."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from edgebench.audit.auditee import LogitsPair
from edgebench.audit.case import Case
from edgebench.audit.judgement import Measure, absent

# Ours: of `assistant` and `assistant@300m`, 4 to 32 samples at a time, bundles of other machines,
# other instruction sets and a GPU are off by 2 % at most; those of the same machine by nothing.
TOLERANCE = 0.1
CLAIM = "call NLL, claimed / here"


def claimed_likelihood(case: Case, pairs: Iterable[LogitsPair]) -> Measure:
    """Compare sums over the samples whose answer here is the call that the likelihood is of."""
    here = claimed = 0.0
    samples = 0
    for pair in pairs:
        filed = case.claimed.likelihood.get(pair.sample)
        if filed is not None and filed.call == pair.output_ids:
            here += nats(pair.in_one_pass, pair.output_ids)
            claimed += filed.nats
            samples += 1
    if not samples or here <= 0:
        return absent(CLAIM, "the bundle has no likelihood of an answer that was given here")
    ratio, low = claimed / here, 1 - TOLERANCE
    return Measure(
        what=CLAIM,
        verdict="passed" if low <= ratio <= 1 / low else "caught",
        value=ratio if math.isfinite(ratio) else None,
        limit=f"{low:.2f} .. {1 / low:.2f}",
        note=f"{claimed:.4g} claimed, {here:.4g} nats here, of {samples} samples",
    )


def nats(logits: npt.NDArray[np.float32], ids: Iterable[int]) -> float:
    """The negative log-likelihood of token ids [T] under logits [T, V]."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    chosen = exact[np.arange(len(exact)), list(ids)]
    return float(np.sum(np.log(np.exp(exact).sum(axis=1)) - chosen))
