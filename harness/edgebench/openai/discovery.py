"""Discovery: who serves which model, and through which door it takes our prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgebench.errors import DeviceUnavailable, SpecError, unknown_name
from edgebench.loadgen import QuerySample
from edgebench.openai.address import Address
from edgebench.openai.connection import Connection, NotReachable, Refused, ServerFailed, shown
from edgebench.openai.request import CHAT, DOORS, Door, Task
from edgebench.openai.sut import OpenAiSut

MODELS = "/v1/models"
NO_SUCH_ENDPOINT = (404, 405, 501)
VERSIONS = (("/props", "build_info"), ("/version", "version"))  # llama.cpp's server; vLLM's
MAX_NAMES = 20
PROBES = 4  # prompts that are answered before anything is timed


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that answers, and the model that is asked of it."""

    address: Address
    model: str
    software: str
    """What it says of itself: its Server header and its version, where it gives them."""


def discover(address: Address, wanted: str | None) -> Served:
    """Ask a server what it serves.

    Raises DeviceUnavailable where nobody listens, SpecError (exit 2) where the model is not served
    or has to be named, ServerFailed for what is no such server.
    """
    connection = Connection(address)
    try:
        names, header = _models(connection)
        versions = [said for path, key in VERSIONS if (said := _version(connection, path, key))]
    except NotReachable as err:
        raise DeviceUnavailable(
            f"[openai] expected a server at {address.shown}, got none ({err}); start one, as "
            "docs/external-engines.md shows"
        ) from err
    finally:
        connection.close()
    software = ", ".join(part for part in (header, *versions) if part)
    return Served(address=address, model=_chosen(names, wanted), software=software)


def _models(connection: Connection) -> tuple[list[str], str]:
    """Return the names that the server lists (none where it has no list), and its header."""
    try:
        listed, header = connection.get_json(MODELS)
    except Refused as err:
        if err.status in NO_SUCH_ENDPOINT:
            return [], ""
        raise
    return list(_names(listed)), header


def _names(listed: Any) -> Iterator[str]:
    entries = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(entries, list):
        raise ServerFailed(f"[openai] expected a list of models from {MODELS}, got something else")
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            yield entry["id"]


def _version(connection: Connection, path: str, key: str) -> str:
    try:
        said, _ = connection.get_json(path)
    except NotReachable:
        raise
    except ServerFailed:
        return ""
    value = said.get(key) if isinstance(said, dict) else None
    return shown(value) if isinstance(value, str) else ""


def _chosen(names: list[str], wanted: str | None) -> str:
    if wanted is not None:
        if names and wanted not in names:
            raise unknown_name("openai", "served model", shown(wanted), map(shown, names))
        return wanted
    if len(names) == 1:
        return names[0]
    listed = ", ".join(map(shown, names[:MAX_NAMES])) or "none"
    raise SpecError(
        f"[openai] expected one served model, got {listed}; name it with --served-model"
    )


def open_door(served: Served, task: Task) -> Door:
    """Find how the server takes a prompt, by asking; what it answers here is not timed.

    Token ids come first, then text; the chat endpoint only where there is no other. Raises
    RunFailed with what the server said.
    """
    refusal: Refused | None = None
    for endpoint, prompt_form in DOORS:
        if endpoint == CHAT and not (refusal and _is_missing(refusal, served.model)):
            break
        door = Door(
            address=served.address,
            endpoint=endpoint,
            model=served.model,
            prompt_form=prompt_form,
        )
        try:
            is_understood = _try(door, task)
        except Refused as err:
            refusal = err
            continue
        if is_understood or prompt_form == "text":
            return door
    raise refusal or ServerFailed("[openai] expected a server that takes prompts, got none")


def _is_missing(refusal: Refused, model: str) -> bool:
    """Whether a refusal says that there is no such endpoint, not that there is no such model."""
    said = refusal.message.lower()
    names_a_model = "model" in said or model.lower() in said
    return refusal.status in NO_SUCH_ENDPOINT and not names_a_model


def _try(door: Door, task: Task) -> bool:
    """Whether the server answers some prompts, and counts their tokens as we do."""
    sut = OpenAiSut(name="probe", door=door, task=task, concurrency=1)
    try:
        samples = [QuerySample(index, index) for index in range(min(PROBES, len(task.prompts)))]
        sut.issue_query(samples, lambda _: None, lambda *_: None)
    finally:
        sut.close()
    if sut.oddities.empty == len(samples):
        raise ServerFailed(
            "[openai] expected answers with text, got empty ones only; is the workload's model "
            "served, with its own tokenizer? See docs/external-engines.md"
        )
    return not sut.oddities.prompts
