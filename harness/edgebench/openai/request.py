"""What is asked of a server: the workload's prompts, through the door that it opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgebench.openai.address import Address
from edgebench.profiles import SCHEDULE_SEED
from edgebench.record import Endpoint, PromptForm

COMPLETIONS: Endpoint = "/v1/completions"
CHAT: Endpoint = "/v1/chat/completions"
REQUEST_SEED = SCHEDULE_SEED % 2**31  # greedy decoding draws nothing; servers take 32 bits

DOORS: tuple[tuple[Endpoint, PromptForm], ...] = (
    (COMPLETIONS, "token ids"),
    (COMPLETIONS, "text"),
    (CHAT, "text"),
)
"""What is tried, in this order: only the first leaves nothing to the server's tokenizer."""

EndReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """How a server takes prompts: where, of which model, in which form."""

    address: Address
    endpoint: Endpoint
    model: str
    prompt_form: PromptForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A workload as a server sees it.

    prompts and texts are the same prompts, as token ids and as text with its special tokens;
    encode turns an answer's text into token ids, adding none.
    """

    prompts: Sequence[Sequence[int]] = field(repr=False)
    texts: Sequence[str] = field(repr=False)
    encode: Callable[[str], list[int]] = field(repr=False)
    max_new_tokens: int
    eos_id: int
    eos_text: str

    def output_ids(self, text: str, end: EndReason) -> list[int]:
        """Return an answer as token ids of this workload; `stop` stands for end-of-sequence.

        Events may part a character beyond 16 bits; a half that found no other is no character.
        """
        whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        ids = self.encode(whole.removesuffix(self.eos_text))
        if end == "stop":
            ids.append(self.eos_id)
        return ids[: self.max_new_tokens]


def request_body(door: Door, task: Task, sample: int) -> bytes:
    """Return the request for one scored sample: greedy, seeded, streamed, with its usage."""
    asked: dict[str, object] = {
        "model": door.model,
        "max_tokens": task.max_new_tokens,
        "temperature": 0,
        "seed": REQUEST_SEED,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if door.endpoint == CHAT:
        asked["messages"] = [{"role": "user", "content": task.texts[sample]}]
    elif door.prompt_form == "text":
        asked["prompt"] = task.texts[sample]
    else:
        asked["prompt"] = list(task.prompts[sample])
    return json.dumps(asked).encode()
