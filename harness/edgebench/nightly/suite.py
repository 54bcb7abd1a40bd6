"""The suite: which cells a night measures, and how sure it must be; one TOML file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from edgebench.codec import describe_invalid
from edgebench.errors import SpecError
from edgebench.nightly.probe import kernel_name
from edgebench.paired import PRACTICAL_LIMIT_PERCENT
from edgebench.record import Name, Profile, Scenario, StrictModel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]


class KernelCell(StrictModel):
    """One INT4 linear, y[m, n] = x[m, k] W^T, in a process of its own without torch."""

    path: Literal["w4a16", "w4a8"]
    n: Annotated[int, Field(ge=16, le=65536)]
    k: Annotated[int, Field(ge=64, le=65536)]
    m: Annotated[int, Field(ge=1, le=4096)] = 1

    @property
    def name(self) -> str:
        """How reports call it."""
        return kernel_name(self.path, self.n, self.k, self.m)


class WorkloadCell(StrictModel):
    """One workload's INT4 kernel, by a whole `bench run`; its fp16 is the control."""

    workload: Name
    scenario: Scenario
    profile: Profile = "quick"

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"{self.workload} {self.scenario}"


class Suite(StrictModel):
    """A suite file."""

    name: Name
    looks: list[Annotated[int, Field(ge=8, le=256)]] = Field(default=[8, 16, 32])
    budget_minutes: Annotated[float, Field(gt=0)] = 60.0
    minimum_effect_percent: Annotated[float, Field(ge=PRACTICAL_LIMIT_PERCENT)] = 1.0
    unknown_effect_percent: Annotated[float, Field(ge=PRACTICAL_LIMIT_PERCENT)] = Field(
        default=5.0, description="where the device has no A/A history yet"
    )
    false_discovery_rate: Annotated[float, Field(gt=0, lt=1)] = 0.01
    kernels: list[KernelCell] = Field(default=[])
    workloads: list[WorkloadCell] = Field(default=[])

    @property
    def names(self) -> list[str]:
        """Every cell, in order."""
        return [*(cell.name for cell in self.kernels), *(cell.name for cell in self.workloads)]


def read_suite(path: Path) -> Suite:
    """Read a suite; SpecError names the field, what was expected there and what came."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        suite = Suite.model_validate(data)
    except OSError as err:
        raise SpecError(
            f"[nightly] expected a suite file, got {path}: {err.strerror}; see docs/nightly.md"
        ) from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise SpecError(f"[{path.name}] expected TOML: {err}") from err
    except ValidationError as err:
        raise SpecError(f"[{path.name}] {describe_invalid(err)}") from err
    if not suite.names:
        raise SpecError(f"[{path.name}] expected a [[kernels]] or [[workloads]] cell, got none")
    if len(set(suite.names)) != len(suite.names):
        raise SpecError(f"[{path.name}] expected every cell once, got one twice")
    if suite.looks != sorted(set(suite.looks)):
        raise SpecError(f"[{path.name}] expected looks that grow, got {suite.looks}")
    return suite
