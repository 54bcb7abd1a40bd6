"""The ticker: calls a function at a steady pace, in a thread of its own, until it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Ticker:
    """Calls `act` every `period_s`, the first time one period after `start`.

    A call that takes longer than a period makes later ones late and none is caught up on, so that
    what is slow to read is read less often and never in a burst. `act` must not raise.
    """

    def __init__(self, act: Callable[[], None], period_s: float, *, name: str) -> None:
        self._act = act
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Begin to tick; a ticker starts once."""
        self._thread.start()

    def stop(self) -> None:
        """Return once the last call has ended; nothing to do for one that never started."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + self._period_s, time.monotonic())
            if self._stop.wait(due - time.monotonic()):
                return
            self._act()
