"""What a stage tells of its items: lines of JSON in a file, so that a killed process has told.

Of an item: `begin` before it is tried, `data` (any number of times) with what it has so far, `end`
with its status, text, seconds and the rest of its data.
"""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PASSED, FAILED, UNAVAILABLE, SKIPPED, INCOMPLETE, PARTLY = (
    "passed",
    "failed",
    "not available",
    "skipped",
    "incomplete",
    "partly passed",
)

EXIT_LOST = 77
"""Of a worker whose GPU context is lost: another process may go on."""

TEXT_LIMIT = 2000

LACKING = ("CudaUnavailable", "GpuBusy", "CudaMemoryError", "OutOfMemoryError")
"""Errors by which a machine says that it lacks something; their rooms are not imported here."""


class Unavailable(Exception):
    """This machine or this checkout lacks what an item needs; the text says what, and the fix."""


class Skipped(Exception):
    """An item that nobody misses here; the text says why."""


class Failed(Exception):
    """An item's result is wrong; `data` is what was measured of it."""

    def __init__(self, text: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.data = data or {}


@dataclass(slots=True)
class Item:
    """One thing that a stage tried."""

    name: str
    status: str = INCOMPLETE
    text: str = ""
    took_s: float | None = None
    data: dict[str, Any] = field(default_factory=dict)


def read(path: Path) -> list[Item]:
    """The items of a file in the order of their beginning; a torn last line is left out."""
    items: dict[str, Item] = {}
    if not path.exists():
        return []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        event = json.loads(line)
        item = items.setdefault(event["item"], Item(event["item"]))
        item.data |= event.get("data") or {}
        if event["event"] == "end":
            item.status, item.text, item.took_s = event["status"], event["text"], event["s"]
    return list(items.values())


class Log:
    """The writing side. Items that the file has already are not tried again."""

    def __init__(self, path: Path, is_alive: Callable[[], bool] = lambda: True) -> None:
        self._path = path
        self._known = {item.name: item.status for item in read(path)}
        self._current: str | None = None
        self.is_alive = is_alive

    def status(self, name: str) -> str | None:
        """What came of an item; None: it was not tried, INCOMPLETE: it took its process down."""
        return self._known.get(name)

    def data(self, **values: Any) -> None:
        """What the current item has so far."""
        self._write({"event": "data", "item": self._current, "data": values})

    def item(self, name: str, action: Callable[[], dict[str, Any] | None]) -> bool:
        """Try one item, and tell what came of it; False where it had been tried before.

        Raises SystemExit(EXIT_LOST) where the GPU is lost to this process.
        """
        if name in self._known:
            return False
        self._current = name
        self._write({"event": "begin", "item": name, "t": time.time()})
        begin = time.monotonic()
        status, text, data = _outcome(action)
        self._known[name] = status
        took_s = time.monotonic() - begin
        self._write(
            {
                "event": "end",
                "item": name,
                "status": status,
                "text": text,
                "s": took_s,
                "data": data,
            }
        )
        if status == FAILED and not self.is_alive():
            raise SystemExit(EXIT_LOST)
        return True

    def _write(self, event: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain(event), allow_nan=False) + "\n")


def _outcome(action: Callable[[], dict[str, Any] | None]) -> tuple[str, str, dict[str, Any]]:
    try:
        return PASSED, "", action() or {}
    except Unavailable as err:
        return UNAVAILABLE, str(err), {}
    except Skipped as err:
        return SKIPPED, str(err), {}
    except ModuleNotFoundError as err:
        return UNAVAILABLE, f"the module {err.name or err} is missing", {}
    except Failed as err:
        return FAILED, str(err)[-TEXT_LIMIT:], err.data
    except Exception as err:  # noqa: BLE001 (whatever it is, it is told, and the rest goes on)
        if type(err).__name__ in LACKING:
            return UNAVAILABLE, str(err)[-TEXT_LIMIT:], {}
        return FAILED, traceback.format_exc(limit=-4)[-TEXT_LIMIT:], {}


def plain(value: Any) -> Any:
    """A value that JSON has: numbers that are not finite become None, other objects their text."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item"):  # numpy's scalars
        return plain(value.item())
    return str(value)


def status_of(items: list[Item]) -> str:
    """The status of a stage that tried these items; what was skipped does not count."""
    found = {item.status for item in items}
    if not found:
        return INCOMPLETE
    for status in (FAILED, INCOMPLETE):
        if status in found:
            return status
    counted = found - {SKIPPED}
    if counted == {PASSED, UNAVAILABLE}:
        return PARTLY
    return counted.pop() if counted else SKIPPED
