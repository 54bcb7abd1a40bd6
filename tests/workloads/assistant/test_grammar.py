"""The language: every phenomenon occurs, no command has two answers, and it is large."""

from __future__ import annotations

import json
import re
from itertools import islice, product

import pytest

from edgebench_workloads.assistant import lexicon, speech
from edgebench_workloads.assistant.dataset import Pair, pair, stream
from edgebench_workloads.assistant.frames import FRAMES
from edgebench_workloads.assistant.grammar import (
    draw_request,
    encode_call,
    plain_pairs_lower_bound,
    say,
)
from edgebench_workloads.draws import Draws


@pytest.fixture(scope="module")
def sample() -> list[Pair]:
    return list(islice(stream("train", start=7_000_000), 20_000))


GOLDEN_DRAWS = [715, 936, 577, 119, 463, 785, 309, 881, 577, 606, 110, 237, 398, 285, 357, 520, 186]


def test_draws_are_what_blake2b_says() -> None:
    """Golden: blake2b(b"edgebench/0"), 32-bit little-endian words from the last to the first."""
    draws = Draws("edgebench")
    assert [draws.below(1000) for _ in range(17)] == GOLDEN_DRAWS


def test_draws_stay_below_and_reach_every_value() -> None:
    draws = Draws("range")
    assert {draws.below(7) for _ in range(500)} == set(range(7))


def test_the_language_is_large() -> None:
    assert len({f.fn for f in FRAMES}) >= 12
    assert plain_pairs_lower_bound() > 10**7


def wordings(sentence: str) -> list[str]:
    """Every choice of alternatives in a sentence."""
    parts = [part.split("|") for part in re.split(r"[()]", sentence)]
    return [" ".join("".join(choice).split()) for choice in product(*parts)]


def test_no_sentence_starts_like_a_greeting() -> None:
    """So that a greeting before a sentence makes another command, as the lower bound assumes."""
    greetings = lexicon.GREETINGS
    longer = [b.removeprefix(a).strip() for a in greetings for b in greetings if a != b]
    starts = tuple(f"{start} " for start in {*greetings, *longer})
    for frame in FRAMES:
        texts = [text for sentence in frame.sentences for text in wordings(sentence)]
        assert not [text for text in texts if text.startswith(starts)]


def test_sentences_of_a_frame_share_no_wording() -> None:
    for frame in FRAMES:
        texts = [text for sentence in frame.sentences for text in set(wordings(sentence))]
        assert len(set(texts)) == len(texts), frame.fn


def test_no_command_has_two_calls() -> None:
    answers: dict[str, str] = {}
    for index in range(200_000):
        draws = Draws(f"ambiguity/{index}")
        request = draw_request(draws)
        call = encode_call(request.call())
        command = say(request, draws)
        assert answers.setdefault(command, call) == call, command


def test_commands_look_like_recognized_speech(sample: list[Pair]) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789 :.'")
    assert set("".join(p.command for p in sample)) <= allowed
    assert not [p.command for p in sample if p.command != " ".join(p.command.split())]


def test_calls_are_canonical_json_with_several_types(sample: list[Pair]) -> None:
    calls = [json.loads(p.call) for p in sample]
    assert [json.dumps(c, separators=(",", ":")) for c in calls] == [p.call for p in sample]
    assert {type(v) for c in calls for v in c.values()} == {str, int, float, bool}
    assert {c["fn"] for c in calls} == {f.fn for f in FRAMES}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(lexicon.REPAIRS, id="correction in place"),
        pytest.param(lexicon.TAIL_REPAIRS, id="correction at the end"),
        pytest.param((" not ",), id="contrast"),
        pytest.param(lexicon.RETRACTIONS, id="retraction"),
        pytest.param(lexicon.PROHIBITIONS, id="negation"),
        pytest.param(lexicon.GREETINGS, id="greeting"),
        pytest.param(lexicon.THANKS, id="thanks"),
        pytest.param(("what a long day", " says hello", "i had "), id="small talk"),
        pytest.param((" um ", " uh "), id="filler"),
        pytest.param(("twenty", "forty"), id="number in words"),
        pytest.param(("20", "40"), id="number in digits"),
        pytest.param((" percent",), id="percent"),
        pytest.param(("celsius", "fahrenheit"), id="temperature unit"),
        pytest.param(("half past", "quarter to"), id="time in words"),
        pytest.param(("an hour and a half", "half an hour"), id="duration in words"),
    ],
)
def test_every_phenomenon_occurs(sample: list[Pair], words: tuple[str, ...]) -> None:
    for word in words:
        assert any(word in p.command for p in sample), word


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "zero"), (13, "thirteen"), (40, "forty"), (85, "eighty five"), (250, "two hundred fifty")],
)
def test_numbers_in_words(number: int, words: str) -> None:
    assert speech.number_words(number) == words


@pytest.mark.parametrize(
    ("kind", "index", "forms"),
    [
        (speech.TIME, 12 * 12, {"noon", "12 pm", "twelve o'clock in the afternoon"}),
        (speech.TIME, 19 * 12 + 3, {"19:15", "7:15 pm", "quarter past seven in the evening"}),
        (speech.TIME, 20 * 12 + 9, {"20:45", "quarter to nine in the evening", "8:45 pm"}),
        (speech.TIME, 1, {"00:05", "12:05 am", "five past twelve at night", "twelve oh five am"}),
        (speech.MINUTES, 29, {"half an hour", "30 minutes", "thirty mins"}),
        (speech.MINUTES, 65, {"90 minutes", "an hour and a half", "one hour and 30 minutes"}),
        (speech.CELSIUS, 13, {"21.5 degrees", "twenty one and a half celsius"}),
        (speech.PERCENT, 50, {"half", "50 percent", "fifty percent"}),
        (speech.AMOUNT, 109, {"110", "one hundred ten", "a hundred and ten"}),
    ],
)
def test_values_can_be_said_so(kind: speech.Kind, index: int, forms: set[str]) -> None:
    said = {kind.say(index, Draws(f"forms/{i}")) for i in range(800)}
    assert forms <= said, forms - said


@pytest.mark.parametrize(
    ("kind", "index", "value"),
    [
        (speech.TIME, 19 * 12 + 3, "19:15"),
        (speech.MINUTES, 0, 1),
        (speech.MINUTES, 59, 60),
        (speech.MINUTES, 65, 90),
        (speech.MINUTES, 95, 240),
        (speech.CELSIUS, 0, 15),
        (speech.CELSIUS, 13, 21.5),
        (speech.SECONDS, 0, 5),
        (speech.DOOR, 0, "front door"),
        (speech.SONG, 15, "electric sky"),
    ],
)
def test_values_in_the_call(kind: speech.Kind, index: int, value: object) -> None:
    assert kind.value(index) == value
    assert type(kind.value(index)) is type(value)


@pytest.mark.parametrize("kind", [speech.TIME, speech.MINUTES, speech.PERCENT, speech.CELSIUS])
def test_no_spoken_form_means_two_values(kind: speech.Kind) -> None:
    meaning: dict[str, object] = {}
    for index in range(kind.size):
        for i in range(60):
            said = kind.say(index, Draws(f"meaning/{index}/{i}"))
            assert meaning.setdefault(said, kind.value(index)) == kind.value(index), said


def test_a_repeated_value_is_refused() -> None:
    with pytest.raises(ValueError, match="distinct values"):
        speech.listing("room", ("the attic", "attic"))


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(KeyError, match="split must be one of scored"):
        pair("test", 0)
