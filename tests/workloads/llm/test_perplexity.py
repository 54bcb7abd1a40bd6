"""The protocol predicts each token once, counts what it predicts, and a known model's answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from edgebench_workloads.errors import WorkloadAssetError
from edgebench_workloads.llm.perplexity import (
    Window,
    denominators,
    window_nats,
    windows_of,
)
from edgebench_workloads.llm.text import TokenizedText, load_tokenizer, read_text, tokenize


def byte_tokenizer(*, bos: bool = False) -> Tokenizer:
    """One token a byte, as GPT-2's alphabet writes them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate([*alphabet, "<s>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if bos:
        tokenizer.add_special_tokens(["<s>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 256)]
        )
    return tokenizer


def word_tokenizer() -> Tokenizer:
    """One token a word; the spaces between them have no offsets."""
    vocabulary = {"<unk>": 0, "one": 1, "two": 2, "three": 3}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


@pytest.mark.parametrize("tokens", [2, 7, 16, 17, 40, 100])
@pytest.mark.parametrize(("context", "stride"), [(16, 16), (16, 4), (16, 1), (2, 1), (5, 3)])
def test_every_token_is_predicted_at_most_once(tokens: int, context: int, stride: int) -> None:
    windows = windows_of(tokens, context, stride)
    predicted = [t for w in windows for t in range(w.predicted_from, w.stop)]
    assert len(predicted) == len(set(predicted)) == sum(w.tokens for w in windows)
    assert all(w.start < w.predicted_from < w.stop <= tokens for w in windows)
    assert all(w.stop - w.start <= context for w in windows)
    if stride < context:  # without a gap, up to the rest that fills no window
        assert predicted == list(range(1, windows[-1].stop))
        assert all(w.predicted_from - w.start >= context - stride for w in windows[1:])
    assert tokens - windows[-1].stop < stride


def test_the_loop_of_gptq() -> None:
    """Three windows of 4 out of 14 tokens, each predicting its last 3."""
    assert windows_of(14, 4, 4) == tuple(
        Window(start=s, predicted_from=s + 1, stop=s + 4) for s in (0, 4, 8)
    )


@pytest.mark.parametrize(
    ("tokens", "context", "stride", "message"),
    [(1, 8, 8, "at least 2 tokens"), (9, 1, 1, "context >= 2"), (9, 4, 5, "stride <= context")],
)
def test_a_protocol_that_predicts_nothing_is_named(tokens, context, stride, message) -> None:
    with pytest.raises(ValueError, match=message):
        windows_of(tokens, context, stride)


@pytest.mark.parametrize(
    "text", ["one two  three\n", "naïve café — 日本語 🙂 end", " x", "", "\n\n"]
)
@pytest.mark.parametrize("bos", [False, True])
def test_tokens_part_the_text(text: str, bos: bool) -> None:
    cut = tokenize(byte_tokenizer(bos=bos), text)
    assert cut.bytes_of.sum() == cut.text_size_bytes == len(text.encode())
    assert cut.words_of.sum() == len(text.split())
    assert len(cut.ids) == len(text.encode()) + bos
    assert cut.special_tokens == bos


def test_spaces_belong_to_the_word_behind_them() -> None:
    cut = tokenize(word_tokenizer(), "one  two\tthree")
    assert cut.bytes_of.tolist() == [3, 5, 6]
    assert cut.words_of.tolist() == [1, 1, 1]


def test_denominators_are_those_of_what_is_predicted() -> None:
    cut = tokenize(word_tokenizer(), "one two three one two")
    counted = denominators(cut, windows_of(5, 3, 3))  # predicts 'two' and 'three'
    assert (counted.tokens, counted.words, counted.bytes) == (2, 2, len(" two three"))


class Known:
    """An engine that gives the next id (id + 1) the probability p and shares the rest."""

    def __init__(self, p: float, vocabulary: int) -> None:
        self.p, self.vocabulary = p, vocabulary
        self.seen: list[int] = []

    def forward_all(self, ids, lengths):
        import torch

        self.seen.append(ids.shape[1])
        rest = math.log((1 - self.p) / (self.vocabulary - 1))
        logits = torch.full((1, ids.shape[1], self.vocabulary), rest)
        logits.scatter_(2, (ids[..., None] + 1) % self.vocabulary, math.log(self.p))
        return logits + 3.0  # softmax is blind to it

    def describe(self) -> str:
        return "known"


def counting(tokens: int, vocabulary: int) -> TokenizedText:
    ones = np.ones(tokens, dtype=np.int64)
    return TokenizedText(
        ids=np.arange(tokens, dtype=np.int64) % vocabulary,
        bytes_of=ones,
        words_of=ones,
        special_tokens=0,
        text_size_bytes=tokens,
    )


@pytest.mark.torch
@pytest.mark.parametrize(("context", "stride"), [(8, 8), (8, 3), (300, 300), (1000, 1)])
def test_a_known_model_has_its_known_perplexity(context: int, stride: int) -> None:
    """Every prediction has p = 1/4, so that perplexity is 4 whatever the windows."""
    pytest.importorskip("torch")
    text, engine = counting(700, 50), Known(0.25, 50)
    windows = windows_of(700, context, stride)
    nats = list(window_nats(engine, text, windows))
    tokens = denominators(text, windows).tokens
    assert math.exp(sum(nats) / tokens) == pytest.approx(4.0, rel=1e-5)  # fp32 logits
    assert engine.seen == [window.stop - window.start for window in windows]


@pytest.mark.torch
def test_an_overflow_is_no_number() -> None:
    pytest.importorskip("torch")
    engine = Known(0.25, 50)
    forward = engine.forward_all
    engine.forward_all = lambda ids, lengths: forward(ids, lengths) * math.nan
    with pytest.raises(FloatingPointError, match=r"tokens 1\.\.7 is not finite.*known"):
        list(window_nats(engine, counting(8, 50), windows_of(8, 8, 8)))


def test_a_missing_tokenizer_is_named(tmp_path) -> None:
    with pytest.raises(WorkloadAssetError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(WorkloadAssetError, match=r"tokenizer\.model alone is not read"):
        load_tokenizer(tmp_path)


def test_a_broken_tokenizer_is_named(tmp_path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(WorkloadAssetError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(tmp_path)


def test_a_text_that_is_not_utf8_is_named(tmp_path) -> None:
    with pytest.raises(WorkloadAssetError, match="cannot be read"):
        read_text(tmp_path / "no.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(WorkloadAssetError, match="is not UTF-8"):
        read_text(tmp_path / "latin.txt")


def test_line_ends_stay_as_they_are(tmp_path) -> None:
    (tmp_path / "dos.txt").write_bytes(b"a\r\nb\r\n")
    assert read_text(tmp_path / "dos.txt") == "a\r\nb\r\n"
