"""llama.cpp's server with a GGUF file of `assistant`, in fp16 and in its own 4-bit blocks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from edgebench_workloads.served import write_gguf
from tests.servers.asked import CONCURRENCY, ask, external_of, prepared_assistant
from tests.servers.conftest import free_port, running

pytestmark = [pytest.mark.slow, pytest.mark.torch, pytest.mark.servers]

SERVER = Path(__file__).parent / "llama_server.py"


@pytest.mark.parametrize("kind", ["f16", "q4_0"])
def test_it_answers_as_the_reference_does(kind: str, tmp_path: Path) -> None:
    missing = [n for n in ("gguf", "xllamacpp") if importlib.util.find_spec(n) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: pip install edgebench[servers]")
    prepared = prepared_assistant()
    model = write_gguf(prepared.directory, tmp_path / "assistant.gguf", kind)
    port = free_port()
    command = [sys.executable, SERVER, model, str(port), str(CONCURRENCY)]
    url = f"http://127.0.0.1:{port}"
    with running(command, url, tmp_path / "log", tmp_path):
        external = external_of(url, prepared)
        described = external.described()
        assert described.software is not None
        assert described.software.startswith("llama.cpp")
        assert described.endpoint == "/v1/completions"
        assert described.prompt_form == "token ids"
        ask(external, prepared)
