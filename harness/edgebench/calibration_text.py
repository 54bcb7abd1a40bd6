"""A calibration set out of a text file of the user's own, in blocks of tokens.

The text is cut at once by the model's tokenizer, with the special tokens that it adds by itself;
blocks of BLOCK_TOKENS follow each other, and a rest that fills none is left out. A text shorter
than that is one block. It must share no stretch with the text that is scored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebench.errors import AssetError, SpecError
from edgebench.transform.calibration import CalibrationSet
from edgebench_workloads.llm.overlap import Shared, shared_runs
from edgebench_workloads.llm.text import load_tokenizer, read_text
from edgebench_workloads.weights import sha256_of

if TYPE_CHECKING:
    from edgebench_kernels.engine import LlamaConfig

BLOCK_TOKENS = 512  # llm-awq utils/calib_data.py block_size
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationText:
    """A text as a transform takes it, and what a record says of it."""

    set: CalibrationSet
    block_tokens: int


def read_calibration(
    path: Path, directory: Path, config: LlamaConfig, scored: NDArray[np.int64] | None = None
) -> CalibrationText:
    """Cut a text for the model in a directory; scored: the ids of the text that it must not share.

    Raises WorkloadAssetError where the text or the tokenizer cannot be read, AssetError where the
    tokenizer is another model's, SpecError for a text that is too short or overlaps.
    """
    text = read_text(path)
    cut = load_tokenizer(directory).encode(text)
    ids = np.array(cut.ids, dtype=np.int64)
    if len(ids) < 2:
        raise SpecError(
            f"[calibration] expected {path.name} to have at least 2 tokens, got {len(ids)}; "
            "give a longer text"
        )
    require_known(int(ids.max()), config)
    if scored is not None:
        shared = shared_runs(ids, scored)
        if shared is not None:
            first, last = shared.first, shared.first + shared.tokens - 1
            stretch = text[cut.offsets[first][0] : cut.offsets[last][1]]
            raise _overlap(path.name, len(ids), shared, stretch)
    size = min(
        BLOCK_TOKENS,
        config.max_position_embeddings,
        config.sliding_window or BLOCK_TOKENS,
        len(ids),
    )
    blocks = ids[: len(ids) // size * size].reshape(-1, size)
    return CalibrationText(
        set=CalibrationSet(sha256=sha256_of(path), sequences=blocks.tolist()), block_tokens=size
    )


def require_known(highest: int, config: LlamaConfig) -> None:
    """AssetError where a tokenizer makes ids that the model has no embedding for."""
    if highest >= config.vocab_size:
        raise AssetError(
            f"[llm] the tokenizer makes id {highest} and the model knows 0..{config.vocab_size - 1}"
            "; give the model's own tokenizer.json"
        )


def _overlap(name: str, tokens: int, shared: Shared, stretch: str) -> SpecError:
    """The error that names what a calibration text of so many tokens shares with the scored one."""
    shown = stretch[:_SHOWN_CHARACTERS] + "..." * (len(stretch) > _SHOWN_CHARACTERS)
    share = math.ceil(100 * shared.runs / (tokens - shared.tokens + 1))
    return SpecError(
        f"[calibration] expected a text that shares no {shared.tokens} tokens in a row with the "
        f"scored one, got {name}, which shares {shared.runs} such runs ({share} % of it), the "
        f"first at token {shared.first} (token {shared.in_other} of the scored text): {shown!r}; "
        "calibrate on another text"
    )
