"""The audit's record: the strict schema of `audit.json`, published in `docs/schema/`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgebench.record import (
    Count,
    Kernel,
    Name,
    Scenario,
    Sha256,
    StrictModel,
    Text,
    Track,
)

Found = Literal["passed", "caught", "unsure", "not applicable", "failed"]


class AuditMeasure(StrictModel):
    """One number of a test against its limit, or the reason why there is none."""

    what: Text
    verdict: Found
    value: float | None = None
    interval: tuple[float, float] | None = Field(
        default=None, description="95 % for ratios of times, 3 sigma for shares"
    )
    limit: Text = ""
    note: Text = ""


class AuditedTest(StrictModel):
    """One test of one kernel; its verdict is that of its worst measure."""

    test: Name
    catches: Text
    verdict: Found
    note: Text = Field(default="", description="why it does not apply, or could not run")
    runs: Count = Field(description="blocks of queries that ran")
    queries: Count
    measures: list[AuditMeasure]


class AuditedKernel(StrictModel):
    """One kernel of the bundle."""

    kernel: Kernel
    executed_path: Text
    tests: list[AuditedTest]


class AuditRecord(StrictModel):
    """`audit.json`."""

    schema_version: Literal[1] = 1
    run_id: Name = Field(description="of the bundle")
    bundle_sha256: Sha256 = Field(description="of the bundle's SHA256SUMS")
    track: Track
    organisation: Name
    workload: Name
    disclosure: Text | None = None
    scenario: Scenario
    transform: Text
    system_claimed: Name
    system: Name = Field(description="that the audit ran on")
    differences: list[Text] = Field(
        description="between the two; with any, no time is compared with the bundle's"
    )
    executed_on: Text
    threads: Annotated[int, Field(ge=1)]
    other_runs_seen: bool = Field(description="another EdgeBench run held the machine's lock")
    seed: Count = Field(description="the audit's own: `bench audit --seed` repeats its draws")
    tool_version: Name
    started_utc: Text
    finished_utc: Text
    verdict: Found
    kernels: list[AuditedKernel]
