"""A text as a tokenizer cuts it: token ids, and the bytes and words that each token stands for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgebench_workloads.errors import WorkloadAssetError

TOKENIZER = "tokenizer.json"
_OTHER_TOKENIZERS = ("tokenizer.model", "vocab.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedText:
    """Every token of a text, special tokens at its ends included.

    Token i stands for the characters from the end of token i - 1 to its own end, so that the
    tokens part the text: no byte and no word counts twice, and leading spaces belong to a token.
    """

    ids: NDArray[np.int64]
    bytes_of: NDArray[np.int64]
    """UTF-8 bytes that each token stands for; 0 for a special token."""
    words_of: NDArray[np.int64]
    """Words (parted by white space) that begin in each token."""
    special_tokens: int
    """How many the tokenizer added."""
    text_size_bytes: int


def load_tokenizer(directory: Path) -> Tokenizer:
    """The directory's tokenizer.json; WorkloadAssetError where it is missing or broken.

    Truncation and padding that were stored with it are a training run's, and turned off.
    """
    path = directory / TOKENIZER
    if not path.is_file():
        others = [
            p.name for p in directory.iterdir() if p.name in ("tokenizer.model", "vocab.json")
        ]
        hint = f"; {', '.join(sorted(others))} alone is not read" if others else ""
        raise WorkloadAssetError(
            f"[llm] no {TOKENIZER} in {directory}{hint}; save the model's fast tokenizer there"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as err:  # what the library raises for a bad file
        raise WorkloadAssetError(f"[llm] {path} is not a tokenizer: {err}") from err
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def read_text(path: Path) -> str:
    """A text as it stands, line ends untouched; WorkloadAssetError where it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as err:
        raise WorkloadAssetError(f"[llm] the text {path} cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise WorkloadAssetError(f"[llm] the text {path} is not UTF-8: {err}") from err


def tokenize(tokenizer: Tokenizer, text: str) -> TokenizedText:
    """Cut the whole text at once, with the special tokens that the tokenizer adds by itself."""
    cut = tokenizer.encode(text)
    ends = np.array([0, *(end for _, end in cut.offsets)], dtype=np.int64)
    ends = np.maximum.accumulate(ends)  # a special token at the end has the offsets (0, 0)
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    sizes = 1 + (points >= 0x80) + (points >= 0x800).astype(np.int64) + (points >= 0x10000)
    is_space = np.array([character.isspace() for character in text], dtype=bool)
    begins = ~is_space & np.concatenate([[True], is_space[:-1]]) if text else is_space
    return TokenizedText(
        ids=np.array(cut.ids, dtype=np.int64),
        bytes_of=_between(sizes, ends),
        words_of=_between(begins, ends),
        special_tokens=sum(cut.special_tokens_mask),
        text_size_bytes=int(sizes.sum()),
    )


def _between(values: NDArray[np.generic], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of values per character over [ends[i], ends[i + 1])."""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    return np.diff(total[ends])
