"""A workload of letters, and doors to fake servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from edgebench.openai.address import parse_url
from edgebench.openai.request import Door, Task
from tests.openai.fake_server import FakeServer

EOS = 2
LIMIT = 6


def encode(text: str) -> list[int]:
    """One token id a letter."""
    return [ord(letter) for letter in text]


@pytest.fixture
def task() -> Task:
    """Ten prompts of three tokens each."""
    texts = [f"ab{number}" for number in range(10)]
    return Task(
        prompts=[encode(text) for text in texts],
        texts=texts,
        encode=encode,
        max_new_tokens=LIMIT,
        eos_id=EOS,
        eos_text="<eos>",
    )


@pytest.fixture
def hang_up() -> Iterator[ExitStack]:
    """Closes at the end of a test what the test gave it."""
    with ExitStack() as stack:
        yield stack


def door_to(server: FakeServer) -> Door:
    """The best door of a fake server."""
    return Door(
        address=parse_url(server.url),
        endpoint="/v1/completions",
        model="tiny",
        prompt_form="token ids",
    )
