"""`transformers serve`, with the reference of `assistant` as the user would give it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from edgebench_workloads.served import copy_directory
from tests.servers.asked import ask, external_of, prepared_assistant
from tests.servers.conftest import free_port, running

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.servers]


@pytest.mark.parametrize("batching", [(), ("--continuous-batching",)], ids=["plain", "batching"])
def test_it_answers_as_the_reference_does(batching: tuple[str, ...], tmp_path: Path) -> None:
    missing = [n for n in ("fastapi", "uvicorn", "openai") if importlib.util.find_spec(n) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: pip install edgebench[servers]")
    prepared = prepared_assistant()
    copy_directory(prepared.directory, tmp_path / "assistant")
    port = free_port()
    command = [
        *(sys.executable, "-m", "transformers.cli.transformers", "serve", "assistant"),
        *("--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"),
        *batching,
    ]
    url = f"http://127.0.0.1:{port}"
    with running(command, url, tmp_path / "log", tmp_path):
        external = external_of(url, prepared)
        described = external.described()
        assert (described.software, described.model) == ("uvicorn", "assistant")
        assert (described.endpoint, described.prompt_form) == ("/v1/completions", "text")
        ask(external, prepared)
