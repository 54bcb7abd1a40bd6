"""An external engine as a kernel of a run: the door that a server opened, beside our reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from edgebench.errors import RunFailed
from edgebench.findings import printable
from edgebench.openai.connection import shown
from edgebench.openai.discovery import Served, discover, open_door
from edgebench.openai.request import Door, Task
from edgebench.openai.sut import OpenAiSut
from edgebench.record import ExternalServer, Kernel, Scenario

if TYPE_CHECKING:
    from edgebench.prepared_text import PreparedText
    from edgebench.spec import ExternalRequest

NOTES = (
    "whether the server answered others at the same time cannot be known from outside",
    "the server answered some prompts before anything was timed",
)
REMOTE_NOTE = "the server runs on another machine: latencies include the network"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalEngine:
    """One scenario's view of a server; see kernel_engine.KernelEngine, which it stands beside."""

    sut: OpenAiSut
    executed_path: str
    batch_size: int
    """Requests in flight."""
    energy_reason: str | None
    """Why the machine's meter does not see it; None where it runs here."""
    kernel: Kernel = "external"
    is_in_process: bool = False
    weight_bytes: None = None
    arithmetic: None = None
    packed: None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was unusual in its answers so far."""
        return self.sut.oddities.warnings()


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """A server that takes one workload's prompts."""

    served: Served
    door: Door
    task: Task
    concurrency: int
    suts: list[OpenAiSut] = field(default_factory=list, repr=False)
    """Those that were made of it."""

    def close(self) -> None:
        """Hang up everywhere."""
        for sut in self.suts:
            sut.close()

    def described(self) -> ExternalServer:
        """Say for the record what was measured, as far as the server says it."""
        remote = () if self.served.address.is_loopback else (REMOTE_NOTE,)
        return ExternalServer(
            url=self.served.address.shown,
            endpoint=self.door.endpoint,
            prompt_form=self.door.prompt_form,
            model=model_name(self.served.model),
            software=self.served.software or None,
            concurrency=self.concurrency,
            notes=[*NOTES, *remote],
        )

    def for_scenario(self, scenario: Scenario) -> ExternalEngine:
        """Return the server as it is asked in a scenario."""
        in_flight = 1 if scenario == "single-stream" else self.concurrency
        is_here = self.served.address.is_loopback
        sut = OpenAiSut(
            name=f"the server at {self.served.address.shown}",
            door=self.door,
            task=self.task,
            concurrency=in_flight,
        )
        self.suts.append(sut)
        return ExternalEngine(
            sut=sut,
            executed_path=executed_path(self.described()),
            batch_size=in_flight,
            energy_reason=None if is_here else "external engine: on another machine",
        )


def executed_path(server: ExternalServer) -> str:
    """Name what ran: the software as it names itself, the model, the door; on one short line."""
    software = server.software or "a server that does not name itself"
    return printable(f"openai {server.endpoint}, {software}, model {server.model}".strip())


def model_name(model: str) -> str:
    """A served model's name; of a folder only the last part, which is nobody's machine."""
    return shown(PurePath(model).name if model.startswith(("/", "~", ".")) else model) or "?"


def connect(request: ExternalRequest) -> Served:
    """Reach the server; see discovery.discover for what it raises."""
    return discover(request.address, request.served_model)


def open_external(served: Served, prepared: PreparedText, concurrency: int) -> External:
    """Find the door for a workload's prompts; its first answers warm the server up."""
    task = task_of(prepared)
    return External(served=served, door=open_door(served, task), task=task, concurrency=concurrency)


def task_of(prepared: PreparedText) -> Task:
    """Return a workload's scored prompts as a server sees them; see text_task."""
    return text_task(prepared, prepared.prompts)


def text_task(prepared: PreparedText, prompts: Sequence[Sequence[int]]) -> Task:
    """Return prompts in both forms; RunFailed where the text would read otherwise."""
    tokenizer = prepared.tokenizer

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    texts = [tokenizer.decode(list(ids), skip_special_tokens=False) for ids in prompts]
    differing = sum(encode(text) != list(ids) for text, ids in zip(texts, prompts, strict=True))
    if differing:
        raise RunFailed(
            f"[openai] expected prompts that survive being text, got {differing} that do not; "
            "this workload cannot be asked of a server"
        )
    return Task(
        prompts=prompts,
        texts=texts,
        encode=encode,
        max_new_tokens=prepared.workload.task.max_new_tokens,
        eos_id=prepared.eos_id,
        eos_text=tokenizer.id_to_token(prepared.eos_id) or "",
    )
