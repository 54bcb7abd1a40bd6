"""The meter of a machine without one: it says so and reads nothing."""

from __future__ import annotations

from edgebench.meters.protocol import Probe


class NoneMeter:
    """Measures nothing; asked for by `--meter none`."""

    name = "none"

    def probe(self) -> Probe:
        """Refuse: there is nothing to read."""
        return Probe(meter=self.name, ok=False, reason="no meter was asked for")

    def read(self) -> dict[str, float]:
        """Return no reading."""
        return {}
