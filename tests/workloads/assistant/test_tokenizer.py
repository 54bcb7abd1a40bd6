"""The tokenizer: size, special tokens, digits one by one, lossless, and short answers."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

import pytest
import tokenizers

from edgebench_workloads.assistant import tokenizer as bpe
from edgebench_workloads.assistant.dataset import scored_pairs, training_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    bpe.save_tokenizer(bpe.train_tokenizer(training_pairs(bpe.TRAINING_PAIRS)), path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> tokenizers.Tokenizer:
    return bpe.load_tokenizer(folder)


def test_training_again_gives_the_pinned_file(folder: Path) -> None:
    package = resources.files("edgebench_workloads.assistant")
    pinned = json.loads(package.joinpath("hashes.json").read_text())
    if tokenizers.__version__ != pinned["tokenizers_version"]:
        pytest.skip(f"the hash was made by tokenizers {pinned['tokenizers_version']}")
    made = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    assert made == pinned["tokenizer_sha256"]


def test_size_and_special_tokens(tokenizer: tokenizers.Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 1024
    ids = [tokenizer.token_to_id(t) for t in bpe.SPECIAL_TOKENS]
    assert ids == [bpe.PAD, bpe.BOS, bpe.EOS, bpe.CALL] == [0, 1, 2, 3]


def test_digits_stand_alone(tokenizer: tokenizers.Tokenizer) -> None:
    multiple = [t for t in tokenizer.get_vocab() if sum(c.isdigit() for c in t) > 1]
    assert not multiple


def test_every_pair_survives(tokenizer: tokenizers.Tokenizer) -> None:
    for pair in scored_pairs():
        for text in (pair.command, pair.call):
            assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_any_text_survives(tokenizer: tokenizers.Tokenizer) -> None:
    text = "Grüße, 東京!  5\n"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_answers_are_12_to_20_tokens_on_average_and_48_at_most(
    tokenizer: tokenizers.Tokenizer,
) -> None:
    lengths = [len(bpe.call_ids(tokenizer, p.call)) for p in scored_pairs()]
    assert 12 <= sum(lengths) / len(lengths) <= 20
    assert max(len(bpe.call_ids(tokenizer, p.call)) for p in training_pairs(20_000)) <= 48


def test_prompt_and_answer_are_framed(tokenizer: tokenizers.Tokenizer) -> None:
    prompt = bpe.prompt_ids(tokenizer, "lock the shed")
    assert (prompt[0], prompt[-1]) == (bpe.BOS, bpe.CALL)
    assert bpe.call_ids(tokenizer, "{}")[-1] == bpe.EOS


def test_too_small_a_corpus_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected 1024 tokens"):
        bpe.train_tokenizer(training_pairs(5))
