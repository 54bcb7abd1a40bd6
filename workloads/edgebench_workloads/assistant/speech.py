"""How values are said aloud: each Kind maps an index to a JSON value and to its spoken forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgebench_workloads.assistant import lexicon
from edgebench_workloads.draws import Draws

Value = str | int | float | bool

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A domain of `size` values.

    Kinds of one `family` sound alike, so that a bare correction could mean either.
    """

    family: str
    size: int
    value: Callable[[int], Value]
    say: Callable[[int, Draws], str]


def number_words(number: int) -> str:
    """An integer in [0, 999] in English words."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + ("" if number % 10 == 0 else f" {_ONES[number % 10]}")
    head = f"{_ONES[number // 100]} hundred"
    return head if number % 100 == 0 else f"{head} {number_words(number % 100)}"


def say_number(number: int, draws: Draws) -> str:
    """An integer in [0, 999], in words or in digits."""
    if draws.chance(45):
        return str(number)
    words = number_words(number)
    if 100 <= number < 200 and draws.chance(50):
        words = "a hundred" + (f" and {number_words(number % 100)}" if number % 100 else "")
    return words


def say_half(halves: int, draws: Draws) -> str:
    """halves/2 in words or digits."""
    whole, rest = divmod(halves, 2)
    if rest == 0:
        return say_number(whole, draws)
    words = number_words(whole)
    return draws.choose((f"{whole}.5", f"{words} point five", f"{words} and a half"))


def _day_part(hour: int) -> str:
    if hour < 4 or hour >= 21:
        return "at night"
    if hour < 12:
        return "in the morning"
    return "in the afternoon" if hour < 17 else "in the evening"


def _clock_words(hour: int, minute: int, draws: Draws) -> str:
    twelve, following = (number_words((h - 1) % 12 + 1) for h in (hour, hour + 1))
    if minute == 0:
        return draws.choose((twelve, f"{twelve} o'clock"))
    style = draws.below(2)
    if style == 0 and minute == 30:
        return f"half past {twelve}"
    if style == 0 and minute % 15 == 0:
        return f"quarter past {twelve}" if minute == 15 else f"quarter to {following}"
    if style == 0 and (minute <= 20 or minute >= 40):
        return (
            f"{number_words(minute)} past {twelve}"
            if minute <= 20
            else f"{number_words(60 - minute)} to {following}"
        )
    return (
        f"{twelve} oh {number_words(minute)}" if minute < 10 else f"{twelve} {number_words(minute)}"
    )


def say_time(index: int, draws: Draws) -> str:
    """Time of day, in 5-minute steps from midnight; the half of the day is always said."""
    hour, minute = divmod(index * 5, 60)
    if minute == 0 and hour % 12 == 0 and draws.chance(60):
        return "noon" if hour == 12 else "midnight"
    suffix = draws.choose(("am" if hour < 12 else "pm", _day_part(hour)))
    style = draws.below(10)
    if style < 2 and not 10 <= hour <= 12:
        return f"{hour:02d}:{minute:02d}"
    if style < 5:
        digits = str((hour - 1) % 12 + 1)
        return (
            f"{digits}:{minute:02d} {suffix}"
            if minute or draws.chance(30)
            else f"{digits} {suffix}"
        )
    return f"{_clock_words(hour, minute, draws)} {suffix}"


def _minutes_of(index: int) -> int:
    return index + 1 if index < 60 else 60 + (index - 59) * 5


def say_minutes(index: int, draws: Draws) -> str:
    """A duration of 1 to 60 minutes, or up to four hours in 5-minute steps."""
    minutes = _minutes_of(index)
    hours, rest = divmod(minutes, 60)
    if minutes < 60 or (minutes <= 120 and draws.chance(30)):
        if minutes in (15, 30, 45) and draws.chance(40):
            return {
                15: "a quarter of an hour",
                30: "half an hour",
                45: "three quarters of an hour",
            }[minutes]
        noun = "minute" if minutes == 1 else draws.choose(("minutes", "minutes", "mins"))
        return f"{say_number(minutes, draws)} {noun}"
    head = (
        "an hour"
        if hours == 1 and draws.chance(60)
        else f"{say_number(hours, draws)} hour{'s' * (hours > 1)}"
    )
    if rest == 0:
        return head
    if rest == 30 and draws.chance(60):
        return "an hour and a half" if hours == 1 else f"{number_words(hours)} and a half hours"
    return f"{head} and {say_number(rest, draws)} minutes"


def say_percent(index: int, draws: Draws) -> str:
    """A share of 0 to 100 percent."""
    if index in (50, 100) and draws.chance(40):
        return "half" if index == 50 else "maximum"
    return f"{say_number(index, draws)} percent"


def listing(family: str, *tables: tuple[lexicon.Entry, ...]) -> Kind:
    """The kind of all entries of the tables; places and doors lose "the" in the call."""
    article = "the " if family in ("room", "door", "place") else ""
    entries = tuple(
        (e.removeprefix(article), e) if isinstance(e, str) else e for t in tables for e in t
    )
    values = tuple(e[0] for e in entries)
    forms = tuple(e[1:] for e in entries)
    if len(set(values)) != len(values):
        raise ValueError(
            f"[assistant/speech] {family} needs distinct values, got a repeated one; rename it"
        )
    return Kind(
        family=family,
        size=len(values),
        value=values.__getitem__,
        say=lambda k, d: d.choose(forms[k]),
    )


def numeric(
    family: str, low: int, high: int, units: tuple[str, ...] = ("",), step: int = 1
) -> Kind:
    """Integers low, low + step, ..., high, followed by one of the unit words."""

    def say(index: int, draws: Draws) -> str:
        return f"{say_number(low + index * step, draws)} {draws.choose(units)}".rstrip()

    return Kind(
        family=family, size=(high - low) // step + 1, value=lambda k: low + k * step, say=say
    )


def _half_degrees(index: int) -> Value:
    halves = 30 + index
    return halves // 2 if halves % 2 == 0 else halves / 2


_FULL_NAMES = tuple(f"{a} {b}" for a in lexicon.FIRST_NAMES for b in lexicon.LAST_NAMES)
CONTACT = listing("name", _FULL_NAMES, lexicon.FIRST_NAMES)
TIME = Kind(
    family="time", size=288, value=lambda k: f"{k // 12:02d}:{k % 12 * 5:02d}", say=say_time
)
MINUTES = Kind(family="duration", size=96, value=_minutes_of, say=say_minutes)
SECONDS = numeric("duration", 5, 99, ("seconds",))
PERCENT = Kind(family="percent", size=101, value=lambda k: k, say=say_percent)
CELSIUS = Kind(
    family="degrees",
    size=31,
    value=_half_degrees,
    say=lambda k, d: (
        f"{say_half(30 + k, d)} {d.choose(('degrees', 'degrees', 'degrees celsius', 'celsius'))}"
    ),
)
FAHRENHEIT = numeric("degrees", 50, 95, ("fahrenheit", "degrees fahrenheit"))
COUNT = numeric("count", 2, 30)
AMOUNT = numeric("count", 1, 250)
LEVEL = numeric("level", 1, 5)
KM = numeric("distance", 1, 60, ("kilometers", "kilometers", "km"))
MILES = numeric("distance", 1, 60, ("miles",))
KMH = numeric("speed", 30, 150, ("kilometers per hour", "km per hour"))
MPH = numeric("speed", 20, 90, ("miles per hour", "mph"))
ROOM = listing("room", lexicon.ROOMS)
DOOR = listing("door", lexicon.DOORS)
NAME = listing("name", lexicon.FIRST_NAMES)
CITY = listing("place", lexicon.CITIES)
PLACE = listing("place", lexicon.CITIES, lexicon.PLACES)
ARTIST = listing("artist", lexicon.ARTISTS)
SONG = listing("song", lexicon.SONGS)
ITEM = listing("item", lexicon.ITEMS)
LIST = listing("list", lexicon.LISTS)
LABEL = listing("label", lexicon.LABELS)
TASK = listing("task", lexicon.TASKS)
EVENT = listing("event", lexicon.EVENTS)
MESSAGE = listing("message", lexicon.MESSAGES)
ARRIVAL = Kind(
    family="message",
    size=58,
    value=lambda k: f"i will be there in {k + 2} minutes",
    say=lambda k, d: f"i will be there in {say_number(k + 2, d)} minutes",
)
DAY = listing("day", lexicon.DAYS)
REPEAT = listing("day", lexicon.REPEATS)
DAY_PART = listing("part", lexicon.DAY_PARTS)
COLOR = listing("color", lexicon.COLORS)
SPEAKER = listing("speaker", lexicon.SPEAKERS)
LINE = listing("line", lexicon.LINES)
ROAD = listing("road", lexicon.ROADS)
VENUE = listing("venue", lexicon.VENUES)
APPLIANCE = listing("appliance", lexicon.APPLIANCES)
PROGRAM = listing("program", lexicon.PROGRAMS)
SEAT = listing("seat", lexicon.SEATS)
