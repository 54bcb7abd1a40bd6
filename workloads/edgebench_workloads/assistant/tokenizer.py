"""Trains and loads the assistant's byte-level BPE tokenizer of 1,024 tokens.

`python -m edgebench_workloads.assistant.tokenizer --out DIR` reproduces the shipped files.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from edgebench_workloads.assistant.dataset import Pair, training_pairs

VOCABULARY_SIZE = 1024
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<call>")
PAD, BOS, EOS, CALL = range(4)
TRAINING_PAIRS = 50_000

# The head of every call, a word or one digit (with its leading space), or a run of JSON
# punctuation; merges never cross these borders.
_PIECES = """\\{"fn":"| ?[a-z_A-Z']+| ?[0-9]|[^ a-z_A-Z'0-9]+| +"""

_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": "<pad>",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "additional_special_tokens": ["<call>"],
    "model_max_length": 256,
    "clean_up_tokenization_spaces": False,
}
_SPECIAL_MAP = {k: v for k, v in _CONFIG.items() if k.endswith(("_token", "_tokens"))}


def train_tokenizer(pairs: Iterable[Pair]) -> Tokenizer:
    """A BPE tokenizer of exactly VOCABULARY_SIZE tokens, trained on commands and calls alike."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for p in pairs for text in (p.command, p.call)), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY_SIZE:
        size = tokenizer.get_vocab_size()
        raise ValueError(
            f"[assistant/tokenizer] expected {VOCABULARY_SIZE} tokens, got {size}; give more pairs"
        )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes the three files that transformers.AutoTokenizer reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in (
        ("tokenizer_config.json", _CONFIG),
        ("special_tokens_map.json", _SPECIAL_MAP),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer saved in a folder."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def prompt_ids(tokenizer: Tokenizer, command: str) -> list[int]:
    """<bos> command <call>: what the model is given."""
    return [BOS, *tokenizer.encode(command).ids, CALL]


def call_ids(tokenizer: Tokenizer, call: str) -> list[int]:
    """call <eos>: what the model must answer."""
    return [*tokenizer.encode(call).ids, EOS]


def main() -> None:
    """Trains on the first 50,000 training pairs and saves."""
    parser = argparse.ArgumentParser(description=train_tokenizer.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    save_tokenizer(train_tokenizer(training_pairs(TRAINING_PAIRS)), parser.parse_args().out)


if __name__ == "__main__":
    main()
