"""The energy part of `record.json`: what meters saw, and what it bought."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgebench.strict import Count, Fraction, Name, NonNegative, StrictModel, Text


class Energy(StrictModel):
    """What a meter saw while one kernel's own blocks ran."""

    status: Literal["measured", "partial", "unmeasured"]
    reason: Text | None = None
    meter: Name | None = None
    domain: Text | None = None
    joules: NonNegative | None = Field(default=None, description="gross: idle power included")
    mean_power_W: NonNegative | None = None
    coverage: Fraction | None = None
    covers: Text | None = Field(default=None, description="what the domain is, in words")
    method: Text | None = Field(default=None, description="how joules follow from readings")
    readings: Count | None = Field(default=None, description="inside this kernel's blocks")
    error_bound_percent: NonNegative | None = Field(
        default=None,
        description="the most that readings can miss at the blocks' edges",
    )
    peak_power_W: NonNegative | None = Field(
        default=None, description="highest reading; of a counter, over half a second or more"
    )
    p95_power_W: NonNegative | None = Field(default=None, description="95 % of the time at most")
    idle_before_W: NonNegative | None = Field(default=None, description="model loaded, no work")
    idle_after_W: NonNegative | None = None
    above_idle_joules: float | None = Field(
        default=None, description="joules less the mean idle power over the same time"
    )


class PhaseEnergy(StrictModel):
    """The energy of one phase of all queries, where a phase lasts long enough to be told apart."""

    joules: NonNegative | None = None
    mean_power_W: NonNegative | None = None
    coverage: Fraction | None = None
    error_bound_percent: NonNegative | None = None
    joules_per_token: NonNegative | None = Field(
        default=None, description="prefill: of the prompts; decode: of the outputs after the first"
    )
    reason: Text | None = None


class EnergyMetrics(StrictModel):
    """What measured energy bought; domain, method, coverage and bound stand in `energy`."""

    joules_per_query: NonNegative
    joules_per_sample: NonNegative
    joules_per_output_token: NonNegative | None = None
    joules_per_total_token: NonNegative | None = Field(
        default=None, description="of prompts and outputs together"
    )
    tokens_per_joule: NonNegative | None = Field(
        default=None, description="output tokens; the same as tokens/s/W"
    )
    energy_delay_Js: NonNegative = Field(description="joules per query times seconds per query")
    prefill: PhaseEnergy | None = None
    decode: PhaseEnergy | None = None
    phases_reason: Text | None = Field(default=None, description="why phases are not told apart")
