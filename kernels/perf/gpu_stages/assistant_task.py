"""The assistant's task read without pydantic: its variant, its data, its judge."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import edgebench_workloads
from edgebench_kernels.cuda.check.events import Unavailable
from edgebench_workloads.assistant.dataset import Pair, scored_pairs
from edgebench_workloads.assistant.quality import is_exact_match
from gpu_stages.widened import Variant, read_variant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TASK = Path(edgebench_workloads.__file__).parent / "assistant"
MODEL = TASK / "model"
VARIANT = "1b"
FOLDER = "assistant-1b"
"""Of the widened model, in the stages' folder."""


def variant() -> Variant:
    """Of `task.toml`."""
    return read_variant(tomllib.loads((TASK / "task.toml").read_text(encoding="utf-8")), VARIANT)


class Questions:
    """The scored set as token ids."""

    def __init__(self) -> None:
        try:
            from edgebench_workloads.assistant.tokenizer import EOS, load_tokenizer, prompt_ids
        except ModuleNotFoundError as err:
            raise Unavailable(f"the module {err.name} is missing: the assistant needs it") from err
        self.pairs: list[Pair] = scored_pairs()
        self.eos_id = EOS
        self._tokenizer = load_tokenizer(MODEL)
        self.prompts = [prompt_ids(self._tokenizer, pair.command) for pair in self.pairs]

    def right(self, answers: Sequence[Sequence[int]]) -> int:
        """How many of the first answers are the expected call."""
        texts = [self._tokenizer.decode(list(answer)) for answer in answers]
        pairs = self.pairs[: len(texts)]
        return sum(is_exact_match(text, pair.call) for text, pair in zip(texts, pairs, strict=True))
