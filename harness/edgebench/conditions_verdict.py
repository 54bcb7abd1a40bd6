"""What the machine's state says of a run: invalid in the closed track, a warning in the open one.

The numbers are kept in either case. What a machine does not show is not judged.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgebench.conditions import CAP_NAME
from edgebench.profiles import CLOCK_SHARE, LOAD_PER_CORE
from edgebench.record import Conditions, Track

HELD_BACK: dict[Track, str] = {"closed": "P-06", "open": "P-07"}
TO_KNOW = "P-08"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Texts that open with their rule."""

    invalid_reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(conditions: Conditions | None, track: Track) -> Judgement:
    """Judge a run by its conditions; a record of an older version has none, and no judgement."""
    if conditions is None:
        return Judgement()
    held = tuple(f"{HELD_BACK[track]}: {text}" for text in _held_back(conditions))
    known = tuple(f"{TO_KNOW}: {text}" for text in _to_know(conditions))
    if track == "closed":
        return Judgement(invalid_reasons=held, warnings=known)
    return Judgement(warnings=(*held, *known))


def _held_back(seen: Conditions) -> list[str]:
    """What took speed away against the machine's will, or shared it with others."""
    texts = [
        f"{name} in {100 * share:.0f} % of the readings"
        for name, share in seen.held_back.items()
        if name != CAP_NAME and share > 0
    ]
    if seen.over_current_events:
        texts.append(f"{seen.over_current_events} over-current events")
    if seen.cpu_throttle_events:
        texts.append(f"the CPU throttled {seen.cpu_throttle_events} times")
    if seen.foreign_processes:
        texts.append(f"{seen.foreign_processes} other processes computed on the GPU")
    if seen.power_mode_changed:
        texts.append("the power mode was changed")
    return texts


def _to_know(seen: Conditions) -> list[str]:
    texts = []
    share = seen.held_back.get(CAP_NAME, 0.0)
    if share > 0:
        limit = f" of {seen.power_limit_W:g} W" if seen.power_limit_W else ""
        texts.append(f"at the power limit{limit} in {100 * share:.0f} % of the readings")
    clock, expected = seen.gpu_clock_median_MHz, seen.gpu_clock_expected_MHz
    if clock and expected and clock < CLOCK_SHARE * expected:
        texts.append(f"the GPU ran at {clock:.0f} MHz in the median, of {expected:.0f} allowed")
    if seen.governor is not None and seen.governor != "performance":
        texts.append(f"the CPU's governor is {seen.governor}, not performance")
    if seen.clocks_locked is False:
        texts.append("jetson_clocks is off")
    load, cores = seen.load_before, seen.cores
    if load is not None and cores and load > LOAD_PER_CORE * cores:
        texts.append(f"a load of {load:g} on {cores} cores before the run")
    return texts
