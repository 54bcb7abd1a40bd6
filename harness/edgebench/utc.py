"""Moments as records write them: ISO 8601, UTC, to the second."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_now() -> str:
    """Return the time as ISO 8601, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_utc(text: str) -> datetime:
    """Read a moment; one without a zone is UTC. Raises ValueError for what is no moment."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
