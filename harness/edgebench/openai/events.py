"""Server-sent events of a streamed completion: lines in, what each event adds to the answer out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from edgebench.openai.connection import ServerFailed, error_message, shown

DONE = b"[DONE]"
_DATA = b"data:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What one event adds; the counts are the server's own, where it gives them."""

    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def deltas(lines: Iterable[bytes]) -> Iterator[Delta]:
    """Yield what each `data:` line says, to the end of the stream; comments are passed over.

    Raises ServerFailed for an error event, for what is no event, and for a stream that ends
    without a finish_reason. What follows `[DONE]` is read and ignored: the connection stays usable.
    """
    is_finished = is_done = False
    for line in lines:
        if is_done or not line.startswith(_DATA):
            if not is_done and line.lstrip().startswith((b"{", b"<")):
                raise _no_event(line)
            continue
        data = line[len(_DATA) :].strip()
        if data == DONE:
            is_done = True
            continue
        delta = _delta(data)
        is_finished = is_finished or delta.finish_reason is not None
        yield delta
    if not is_finished:
        raise ServerFailed(
            "[openai] expected a stream that ends with a finish_reason; it was cut off"
        )


def _no_event(line: bytes) -> ServerFailed:
    return ServerFailed(
        f"[openai] expected server-sent events (lines 'data: {{...}}'), got "
        f"{shown(line.decode('utf-8', 'replace'))!r}"
    )


def _delta(data: bytes) -> Delta:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError) as err:
        raise _no_event(data) from err
    if not isinstance(event, dict):
        raise _no_event(data)
    if event.get("error"):
        raise ServerFailed(f"[openai] the server failed at an answer: {error_message(data)}")
    choices = event.get("choices") or []
    usage = event.get("usage") or {}
    try:
        text, finish_reason = _choice(choices[0]) if choices else ("", None)
        return Delta(
            text=text,
            finish_reason=finish_reason,
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        raise _no_event(data) from err


def _choice(choice: dict[str, Any]) -> tuple[str, str | None]:
    """Return the text of a completion's or a chat's choice, and why it ended if it did."""
    if choice.get("index", 0) != 0:
        raise ValueError("one answer was asked for")
    text = choice["delta"].get("content") if "delta" in choice else choice.get("text")
    finish_reason = choice.get("finish_reason")
    if not isinstance(text or "", str) or not isinstance(finish_reason, str | None):
        raise TypeError("text and finish_reason are strings")
    return text or "", finish_reason or None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
