"""Composes a command for a call: a frame, its spoken arguments, and what people say around them.

Phenomena: corrections in place ("five no make that six") and at the end ("... sorry i meant the
bedroom"), contrast ("the bedroom not the kitchen"), retracted commands ("call anna scratch that
play ..."), negated commands ("don't lock the shed just ..."), fillers, greetings, and small talk
with numbers, names and times that do not matter.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache

from edgebench_workloads.assistant import lexicon, speech
from edgebench_workloads.assistant.frames import FRAMES, Frame
from edgebench_workloads.assistant.speech import Kind, Value
from edgebench_workloads.draws import Draws

# Percent of commands that show each phenomenon.
IN_PLACE, AT_END, CONTRAST, RETRACTED, NEGATED = 11, 6, 5, 4, 4
FILLER, GREETING, TALK_BEFORE, TALK_AFTER, THANKS = 8, 40, 10, 7, 12

_NOT_IMPERATIVE = ("what", "how", "will", "is", "i", "in", "at", "by", "make", "let", "avoid", "{")
_PARTS = re.compile(r"\(([^)]*)\)|\{(\w+)\}|([^({]+)")

Node = (
    tuple[str, ...] | str
)  # a tuple of alternatives (one when it is plain text), or the key of an argument
Call = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call that somebody wants: the frame and the index of each of its argument values."""

    frame: Frame
    indices: tuple[int, ...]

    def call(self) -> Call:
        """The function's name under "fn" and the arguments, in canonical key order."""
        chosen = zip(self.frame.args, self.indices, strict=True)
        return {"fn": self.frame.fn} | {
            key: k.value(i) if isinstance(k, Kind) else k for (key, k), i in chosen
        }


@cache
def _parse(sentence: str) -> tuple[Node, ...]:
    return tuple(
        key or (tuple(choice.split("|")) if choice else (text,))
        for choice, key, text in _PARTS.findall(sentence)
    )


def _is_imperative(sentence: str) -> bool:
    first = sentence.lstrip("(").split("|")[0].split(" ")[0]
    return not (first.startswith("{") or first in _NOT_IMPERATIVE)


_TICKETS = tuple(f for f in FRAMES for _ in range(f.weight))


def draw_request(draws: Draws) -> Request:
    """A request drawn uniformly within a frame drawn by weight."""
    frame = draws.choose(_TICKETS)
    indices = tuple(draws.below(k.size) if isinstance(k, Kind) else 0 for _, k in frame.args)
    return Request(frame=frame, indices=indices)


def encode_call(call: Call) -> str:
    """The call as the shortest JSON, keys in the order given."""
    return json.dumps(call, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _other(kind: Kind, index: int, draws: Draws) -> int:
    """Another index of the same kind whose value differs."""
    return (index + 1 + draws.below(kind.size - 1)) % kind.size


def _in_place(kind: Kind, index: int, said: str, draws: Draws) -> str:
    wrong = kind.say(_other(kind, index, draws), draws)
    if draws.chance(10):
        wrong = (
            f"{kind.say(_other(kind, index, draws), draws)} {draws.choose(lexicon.REPAIRS)} {wrong}"
        )
    return f"{wrong} {draws.choose(lexicon.REPAIRS)} {said}"


def _contrast(kind: Kind, index: int, said: str, draws: Draws) -> str:
    wrong = kind.say(_other(kind, index, draws), draws)
    return draws.choose(
        (f"{said} not {wrong}", f"{said} and not {wrong}", f"not {wrong} but {said}")
    )


def _fill(sentence: str, spoken: dict[str, str], draws: Draws) -> str:
    words = (spoken[n] if isinstance(n, str) else draws.choose(n) for n in _parse(sentence))
    return " ".join("".join(words).split())


def _plain(request: Request, draws: Draws) -> dict[str, str]:
    chosen = zip(request.frame.args, request.indices, strict=True)
    return {key: kind.say(i, draws) for (key, kind), i in chosen if isinstance(kind, Kind)}


def _repairable(frame: Frame, *, at_end: bool) -> list[int]:
    """Positions of the arguments that may be corrected.

    At the end of a command only those whose family tells which one is meant.
    """
    families = [k.family if isinstance(k, Kind) else "" for _, k in frame.args]
    spoken = [i for i, family in enumerate(families) if family not in ("", "message", "task")]
    return (
        [i for i in spoken if families.count(families[i]) == 1 and families[i] != "count"]
        if at_end
        else spoken
    )


def _body(request: Request, draws: Draws) -> str:
    """The sentence with at most one corrected or contrasted argument."""
    frame, spoken, tail = request.frame, _plain(request, draws), ""
    style = draws.below(100)
    at_end = IN_PLACE + CONTRAST <= style < IN_PLACE + CONTRAST + AT_END and not frame.ends_open
    positions = _repairable(frame, at_end=at_end)
    if positions and (at_end or style < IN_PLACE + CONTRAST):
        position = draws.choose(positions)
        (key, kind), index = frame.args[position], request.indices[position]
        assert isinstance(kind, Kind)
        if at_end:
            tail = f" {draws.choose(lexicon.TAIL_REPAIRS)} {spoken[key]}"
            spoken[key] = kind.say(_other(kind, index, draws), draws)
        else:
            speak = _in_place if style < IN_PLACE else _contrast
            spoken[key] = speak(kind, index, spoken[key], draws)
    return _fill(draws.choose(frame.sentences), spoken, draws) + tail


def _order(draws: Draws) -> str:
    """A plain imperative that will not be carried out."""
    while True:
        request = draw_request(draws)
        orders = [t for t in request.frame.sentences if _is_imperative(t)]
        if orders and not request.frame.ends_open:
            return _fill(draws.choose(orders), _plain(request, draws), draws)


def _small_talk(draws: Draws) -> str:
    """A remark that asks for nothing, whatever it mentions."""
    kinds = {"name": speech.NAME, "n": speech.COUNT, "city": speech.CITY, "time": speech.TIME}
    nodes = _parse(draws.choose(lexicon.SMALL_TALK))
    return "".join(
        kinds[n].say(draws.below(kinds[n].size), draws) if isinstance(n, str) else n[0]
        for n in nodes
    )


def _with_filler(command: str, draws: Draws) -> str:
    words = command.split(" ")
    place = 1 + draws.below(len(words) - 1)
    return " ".join([*words[:place], draws.choose(lexicon.FILLERS), *words[place:]])


def say(request: Request, draws: Draws) -> str:
    """One way to say the request, as a recognizer would write it: lower case, no punctuation."""
    command = _body(request, draws)
    style = draws.below(100)
    if style < RETRACTED:
        command = f"{_order(draws)} {draws.choose(lexicon.RETRACTIONS)} {command}"
    elif style < RETRACTED + NEGATED:
        prohibited = f"{draws.choose(lexicon.PROHIBITIONS)} {_order(draws)}"
        command = f"{prohibited} {draws.choose(lexicon.INSTEADS)} {command}"
    elif draws.chance(GREETING):
        command = f"{draws.choose(lexicon.GREETINGS)} {command}"
    if not request.frame.ends_open:
        if draws.chance(FILLER):
            command = _with_filler(command, draws)
        if draws.chance(THANKS):
            command = f"{command} {draws.choose(lexicon.THANKS)}"
        if draws.chance(TALK_AFTER):
            command = f"{command} {_small_talk(draws)}"
    return f"{_small_talk(draws)} {command}" if draws.chance(TALK_BEFORE) else command


def plain_pairs_lower_bound() -> int:
    """At least this many distinct (command, call) pairs: calls x sentences x (greetings + none).

    Counts one spoken form per value, one wording per sentence, no correction and no small talk. The
    pairs differ: their calls do, or the fixed words of their sentences do, or their first words do
    (no sentence starts like a greeting).
    """
    return sum(f.combinations * len(f.sentences) for f in FRAMES) * (1 + len(lexicon.GREETINGS))
