"""The functions the assistant can call: argument kinds beside the sentences that ask for them.

In a sentence, (a|b) is a free choice between wordings and {key} is the spoken form of an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgebench_workloads.assistant import speech as s
from edgebench_workloads.assistant.lexicon import CONVERSIONS
from edgebench_workloads.assistant.speech import Kind, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One function with one set of arguments, in canonical key order.

    `weight` is its relative frequency. `ends_open` says that sentences end in free text, so that
    nothing may follow them.
    """

    fn: str
    args: tuple[tuple[str, Kind | Value], ...]
    sentences: tuple[str, ...]
    weight: int = 4
    ends_open: bool = False

    @property
    def combinations(self) -> int:
        """How many distinct calls this frame has."""
        product = 1
        for _, kind in self.args:
            product *= kind.size if isinstance(kind, Kind) else 1
        return product


def _frame(
    fn: str, *sentences: str, weight: int = 4, ends_open: bool = False, **args: Kind | Value
) -> Frame:
    return Frame(
        fn=fn, args=tuple(args.items()), sentences=sentences, weight=weight, ends_open=ends_open
    )


_TIMER = (
    "(set|start) a timer for {minutes}",
    "wake me up from my nap in {minutes}",
    "(count down|time) {minutes}",
)
_LABELED = (
    "(set|start) a {label} timer for {minutes}",
    "(set|start) a timer for {minutes} for the {label}",
)
_LIGHT = (
    "(set|dim) the lights in {room} to {level}",
    "(set|bring) {room} (light|lights|lamp) to {level}",
)
_HEAT = (
    "(set|put) the (heating|thermostat) in {room} to {degrees}",
    "(heat|warm) {room} to {degrees}",
)
_FIND = (
    "(find|look for|show me) a {kind} within {within}",
    "search for a {kind} (less than|at most) {within} away",
)

FRAMES: tuple[Frame, ...] = (
    _frame("set_timer", *_TIMER, minutes=s.MINUTES, weight=1),
    _frame("set_timer", *_LABELED, minutes=s.MINUTES, label=s.LABEL),
    _frame(
        "set_timer",
        *(t.replace("minutes", "seconds") for t in _LABELED),
        seconds=s.SECONDS,
        label=s.LABEL,
        weight=2,
    ),
    _frame(
        "set_alarm",
        "(set an alarm for|wake me up at|get me up at) {time} {day}",
        "{day} wake me up at {time}",
        "set my alarm {day} (to|for) {time}",
        time=s.TIME,
        day=s.DAY,
    ),
    _frame(
        "set_alarm",
        "(set an alarm for|wake me up at) {time} {repeat}",
        "{repeat} wake me (up|) at {time}",
        time=s.TIME,
        repeat=s.REPEAT,
    ),
    _frame(
        "set_light",
        "(turn|switch) on {room} (light|lights|lamp)",
        "(turn|switch) the lights on in {room}",
        "(light up|illuminate) {room}",
        room=s.ROOM,
        on=True,
        weight=1,
    ),
    _frame(
        "set_light",
        "(turn|switch) off {room} (light|lights|lamp)",
        "(turn|switch) the lights off in {room}",
        "make {room} dark",
        room=s.ROOM,
        on=False,
        weight=1,
    ),
    _frame("set_light", *_LIGHT, room=s.ROOM, level=s.PERCENT),
    _frame(
        "set_light",
        "(make|turn) {room} (light|lights|lamp) {color} at {level}",
        "(set|change) the lights in {room} to {color} and {level}",
        room=s.ROOM,
        color=s.COLOR,
        level=s.PERCENT,
    ),
    _frame("set_heating", *_HEAT, room=s.ROOM, degrees=s.CELSIUS, unit="C"),
    _frame("set_heating", *_HEAT, room=s.ROOM, degrees=s.FAHRENHEIT, unit="F", weight=2),
    _frame(
        "set_fan",
        "(set|put|turn) the fan in {room} (to|on) (speed|level) {speed} for {minutes}",
        "run the fan in {room} for {minutes} (at|on) (speed|level) {speed}",
        room=s.ROOM,
        speed=s.LEVEL,
        minutes=s.MINUTES,
    ),
    _frame(
        "set_blinds",
        "(open|set|move) the (blinds|shades|shutters) in {room} to {level}",
        "(put|bring) {room} (blinds|shades|shutters) to {level}",
        room=s.ROOM,
        level=s.PERCENT,
    ),
    _frame(
        "lock",
        "lock {door} at {time}",
        "(make sure|see to it that) {door} (is|gets) locked at {time}",
        "at {time} lock {door}",
        door=s.DOOR,
        time=s.TIME,
    ),
    _frame(
        "unlock",
        "unlock {door} for {minutes}",
        "(open|release) {door} for {minutes}",
        "let {door} stay (open|unlocked) for {minutes}",
        door=s.DOOR,
        minutes=s.MINUTES,
    ),
    _frame(
        "play_music",
        "(play|put on|start) {song} by {artist}",
        "i (want to|would like to|feel like i should) hear {song} by {artist}",
        song=s.SONG,
        artist=s.ARTIST,
    ),
    _frame(
        "play_music",
        "(play|put on) (some|music by|songs by) {artist} (in|for) {room}",
        "(shuffle|mix) {artist} in {room}",
        artist=s.ARTIST,
        room=s.ROOM,
    ),
    _frame(
        "set_volume",
        "(set|turn|put) (the volume of|the sound of|) {device} to {level}",
        "make {device} play at {level}",
        device=s.SPEAKER,
        level=s.PERCENT,
    ),
    _frame(
        "call",
        "(call|phone|ring) {to} on (the|his|her) {line}",
        "(dial|get me) {to} on {line}",
        to=s.CONTACT,
        line=s.LINE,
    ),
    _frame(
        "call",
        "(call|phone|ring) {to} in {after}",
        "in {after} (call|phone) {to}",
        to=s.NAME,
        after=s.MINUTES,
        weight=2,
    ),
    _frame(
        "send_message",
        "(text|message) {to} {text}",
        "(send a message to|write to) {to} saying {text}",
        "(tell|let) {to} (that|know) {text}",
        to=s.CONTACT,
        text=s.MESSAGE,
        ends_open=True,
    ),
    _frame(
        "send_message",
        "(text|message) {to} {text}",
        "(send a message to|write to) {to} saying {text}",
        to=s.CONTACT,
        text=s.ARRIVAL,
        ends_open=True,
        weight=2,
    ),
    _frame(
        "navigate",
        "(navigate|drive|take me|bring me) to {to} (via|through|by way of) {via}",
        "(find|plan|show) (a route|the way) to {to} (via|through) {via}",
        to=s.PLACE,
        via=s.CITY,
    ),
    _frame(
        "navigate",
        "(navigate|drive|take me) to {to} (without|avoiding) {avoid}",
        "(get|bring) me to {to} and avoid {avoid}",
        "avoid {avoid} and (drive|go) to {to}",
        to=s.PLACE,
        avoid=s.ROAD,
        weight=2,
    ),
    _frame(
        "add_item",
        "(add|put) {quantity} {item} (to|on) {list}",
        "{list} needs {quantity} {item}",
        quantity=s.COUNT,
        item=s.ITEM,
        list=s.LIST,
    ),
    _frame(
        "add_reminder",
        "remind me {day} at {time} to {task}",
        "(remind me|make sure i remember) to {task} {day} at {time}",
        "(set|add) a reminder to {task} at {time} {day}",
        task=s.TASK,
        day=s.DAY,
        time=s.TIME,
    ),
    _frame(
        "add_reminder",
        "remind me to {task} in {after}",
        "in {after} (remind|tell) me to {task}",
        task=s.TASK,
        after=s.MINUTES,
        weight=2,
    ),
    _frame(
        "add_event",
        "(add|put|schedule) {title} with {with} {day} at {time}",
        "(book|plan) {title} {day} at {time} with {with}",
        title=s.EVENT,
        **{"with": s.NAME},  # type: ignore[arg-type]
        day=s.DAY,
        time=s.TIME,
    ),
    _frame(
        "get_weather",
        "what (is|will) the weather (be|) like in {city} {day} {part}",
        "(will it|is it going to) rain {day} {part} in {city}",
        "(give me|tell me) the forecast for {city} {day} {part}",
        city=s.CITY,
        day=s.DAY,
        part=s.DAY_PART,
    ),
    _frame(
        "start_appliance",
        "(start|run) {device} on {program} in {delay}",
        "in {delay} (start|run) {device} (on|with) the {program} program",
        device=s.APPLIANCE,
        program=s.PROGRAM,
        delay=s.MINUTES,
    ),
    _frame(
        "set_cruise",
        "(set|hold) (the cruise control|my speed) (to|at) {speed} with a gap of {gap}",
        "(cruise|drive) at {speed} (with|and keep) gap {gap}",
        speed=s.KMH,
        unit="kmh",
        gap=s.LEVEL,
        weight=2,
    ),
    _frame(
        "set_cruise",
        "(set|hold) (the cruise control|my speed) (to|at) {speed} with a gap of {gap}",
        speed=s.MPH,
        unit="mph",
        gap=s.LEVEL,
        weight=1,
    ),
    _frame(
        "heat_seat",
        "(heat|warm) {seat} (on|at) level {level} for {minutes}",
        "(turn on|start) the heating of {seat} for {minutes} at level {level}",
        seat=s.SEAT,
        level=s.LEVEL,
        minutes=s.MINUTES,
    ),
    _frame("find_place", *_FIND, kind=s.VENUE, within=s.KM, unit="km", weight=2),
    _frame("find_place", *_FIND, kind=s.VENUE, within=s.MILES, unit="mi", weight=2),
    _frame(
        "charge_car",
        "charge the car to {limit} by {ready}",
        "(have|get) the (car|battery) at {limit} by {ready}",
        "by {ready} (charge|fill) the battery to {limit}",
        limit=s.PERCENT,
        ready=s.TIME,
    ),
    *(
        _frame(
            "convert",
            f"(convert|change|turn) {{value}} {a} (to|into) {b}",
            f"how many {b} (are|is) {{value}} {a}",
            f"(tell me|give me) {{value}} {a} in {b}",
            value=s.AMOUNT,
            **{"from": start},  # type: ignore[arg-type]
            to=end,
            weight=1,
        )
        for start, a, end, b in CONVERSIONS[::2] + CONVERSIONS[1::2]
    ),
)
