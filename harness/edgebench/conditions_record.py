"""The part of `record.json` that says how the machine was while it was measured."""

from __future__ import annotations

from pydantic import Field

from edgebench.strict import Count, Fraction, NonNegative, StrictModel, Text


class ConditionSample(StrictModel):
    """One point of the timeline; of several readings the slowest clock and the hottest sensor."""

    at_s: NonNegative = Field(description="since the first measured block could begin")
    gpu_clock_MHz: NonNegative | None = None
    cpu_clock_MHz: NonNegative | None = Field(default=None, description="of the slowest core")
    hottest_C: float | None = None
    held_back_by: list[Text] = Field(
        default=[], max_length=20, description="throttle reasons and active cooling devices"
    )


class Conditions(StrictModel):
    """The state of the machine while the blocks ran; what it does not show is null."""

    period_s: NonNegative
    readings: Count
    covers_part: bool = Field(description="a resumed run: readings of its last attempt alone")
    held_back: dict[Text, Fraction] = Field(
        default={}, description="throttle reason or cooling device -> share of the readings"
    )
    sees_throttling: bool = Field(description="whether anything here would have told")
    first_held_back_s: NonNegative | None = Field(
        default=None, description="time to throttle; null: it did not"
    )
    over_current_events: Count | None = None
    cpu_throttle_events: Count | None = None
    foreign_processes: Count | None = Field(
        default=None, description="most others seen computing on the GPU"
    )
    governor: Text | None = None
    turbo: bool | None = None
    clocks_locked: bool | None = Field(default=None, description="a Jetson's jetson_clocks")
    power_mode: Text | None = None
    power_mode_changed: bool = False
    gpu_clock_median_MHz: NonNegative | None = None
    gpu_clock_expected_MHz: NonNegative | None = Field(
        default=None, description="the highest that power mode or driver allow"
    )
    observed_fp16_ops_per_s: NonNegative | None = Field(
        default=None, description="the catalog's dense peak at the median clock"
    )
    hottest_start_C: float | None = None
    hottest_end_C: float | None = None
    load_before: NonNegative | None = Field(
        default=None, description="load average when the command began"
    )
    cores: Count | None = None
    swap_used_bytes: Count | None = Field(default=None, description="at the end")
    power_limit_W: NonNegative | None = None
    timeline: list[ConditionSample] = Field(default=[], max_length=600)


class Sustained(StrictModel):
    """How a kernel's speed held in a run of over two minutes."""

    cold_samples_per_s: NonNegative = Field(description="in the first 30 s")
    sustained_samples_per_s: NonNegative = Field(description="in the last 60 s")
    ratio: NonNegative = Field(description="sustained over cold")
