"""The condition log: one thread that watches the machine while blocks run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from edgebench.conditions import CAP_NAME, Snapshot, Watch
from edgebench.device_catalog import DEVICES
from edgebench.record import Conditions, ConditionSample
from edgebench.system import SystemDescription
from edgebench.ticker import Ticker

PERIOD_S = 0.5
MAX_POINTS = 600  # record.Conditions.timeline


class ConditionLog:
    """Takes a snapshot on entry, every half a second, and on exit."""

    def __init__(
        self,
        watch: Watch,
        period_s: float = PERIOD_S,
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch = watch
        self._period_s = period_s
        self._clock_s = clock_s
        self._ticker = Ticker(self.take, period_s, name="edgebench-watch")
        self._started_s = 0.0
        self.taken: list[tuple[float, Snapshot]] = []

    def __enter__(self) -> ConditionLog:
        self._started_s = self._clock_s()
        self.take()
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ticker.stop()
        self.take()

    def take(self) -> None:
        """Add a snapshot."""
        self.taken.append((self._clock_s() - self._started_s, self._watch.look()))

    def summary(
        self, system: SystemDescription, *, load_before: float | None, covers_part: bool
    ) -> Conditions:
        """Sum up what was seen; call it after the block."""
        snapshots = [snapshot for _, snapshot in self.taken]
        first, last = snapshots[0], snapshots[-1]
        held = [(at_s, _held_back(snapshot)) for at_s, snapshot in self.taken]
        slowed = [at_s for at_s, names in held if set(names) - {CAP_NAME}]
        clocks = [one.gpu_clock_MHz for one in snapshots if one.gpu_clock_MHz]
        median_MHz = statistics.median(clocks) if clocks else None
        foreign = [n for one in snapshots if (n := one.foreign_processes) is not None]
        jetson, boards = system.jetson, system.gpus
        return Conditions(
            period_s=self._period_s,
            readings=len(snapshots),
            covers_part=covers_part,
            held_back=_shares([names for _, names in held]),
            sees_throttling=_sees_throttling(snapshots),
            first_held_back_s=slowed[0] if slowed else None,
            over_current_events=_more(first.over_currents, last.over_currents),
            cpu_throttle_events=_more(first.cpu_throttles, last.cpu_throttles),
            foreign_processes=max(foreign) if foreign else None,
            governor=last.governor,
            turbo=system.cpu.turbo,
            clocks_locked=jetson.clocks_locked if jetson else None,
            power_mode=jetson.power_mode if jetson else None,
            power_mode_changed=len({one.power_mode for one in snapshots}) > 1,
            gpu_clock_median_MHz=median_MHz,
            gpu_clock_expected_MHz=_expected_MHz(system),
            observed_fp16_ops_per_s=_observed_peak(system, median_MHz),
            hottest_start_C=first.hottest_C,
            hottest_end_C=last.hottest_C,
            load_before=load_before,
            cores=system.cpu.cores_online,
            swap_used_bytes=last.swap_used_bytes,
            power_limit_W=boards[0].power_limit_W if boards else None,
            timeline=timeline(self.taken),
        )


def timeline(taken: Sequence[tuple[float, Snapshot]]) -> list[ConditionSample]:
    """Draw at most MAX_POINTS points; of readings that share one, the worst of each."""
    each = -(-len(taken) // MAX_POINTS)
    points = []
    for start in range(0, len(taken), each):
        group = taken[start : start + each]
        shots = [snapshot for _, snapshot in group]
        names = dict.fromkeys(name for shot in shots for name in _held_back(shot))
        points.append(
            ConditionSample(
                at_s=max(0.0, group[0][0]),
                gpu_clock_MHz=min(
                    (s.gpu_clock_MHz for s in shots if s.gpu_clock_MHz), default=None
                ),
                cpu_clock_MHz=min(
                    (s.cpu_clock_MHz for s in shots if s.cpu_clock_MHz), default=None
                ),
                hottest_C=max((t for s in shots if (t := s.hottest_C) is not None), default=None),
                held_back_by=list(names)[:20],
            )
        )
    return points


def _held_back(snapshot: Snapshot) -> tuple[str, ...]:
    return (*(snapshot.reasons or ()), *(f"cooling {name}" for name in snapshot.cooling))


def _shares(named: Sequence[Sequence[str]]) -> dict[str, float]:
    names = dict.fromkeys(name for names in named for name in names)
    return {name: sum(name in names for names in named) / len(named) for name in names}


def _sees_throttling(snapshots: Sequence[Snapshot]) -> bool:
    return any(
        one.reasons is not None
        or one.over_currents is not None
        or one.cpu_throttles is not None
        or one.temperatures_C
        for one in snapshots
    )


def _more(before: int | None, after: int | None) -> int | None:
    """How far a counter of events moved; None where it cannot be read, or went back."""
    return None if before is None or after is None or after < before else after - before


def _expected_MHz(system: SystemDescription) -> float | None:
    if system.jetson is not None:
        return system.jetson.gpu_clock_max_MHz
    return system.gpus[0].clock_max_MHz if system.gpus else None


def _observed_peak(system: SystemDescription, clock_MHz: float | None) -> float | None:
    if system.catalog is None or not clock_MHz:
        return None
    peaks = DEVICES[system.catalog.device].peaks_at(clock_MHz / 1000)
    return peaks.fp16_ops_per_s if peaks else None
