"""The race of one shape: build every contender once, then check and time each number of tokens."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from edgebench_kernels import native
from edgebench_kernels.race import checks, peers
from edgebench_kernels.race.cases import (
    Case,
    Contender,
    available_bytes,
    check_shape,
    needed_bytes,
    random_activations,
    random_tensor,
)
from edgebench_kernels.race.ours import our_contenders
from edgebench_kernels.race.rows import Row, interquartile_range
from edgebench_kernels.race.turns import Rounds, ceilings_of, take_turns

Note = Callable[[str], None]
PERCENT = 100.0


class _Names(NamedTuple):
    name: str
    peer: str | None  # None: one of ours
    best: str | None  # the fastest peer


class WrongResult(RuntimeError):
    """A kernel of ours is wrong: it has no speed."""


def race_shape(
    cases: Sequence[Case],
    *,
    ops: Sequence[str],
    peer_names: Sequence[str],
    rounds: int,
    note: Note,
) -> Iterator[list[Row]]:
    """Yield the rows of each case; all cases share N, K and G.

    Peers that cannot start, or whose answer is wrong, get a row without times; `note` says why.
    Raises ValueError for a shape that cannot be packed, MemoryError where the machine is too small
    and `WrongResult` when a path of ours leaves its float64 twin.
    """
    n, k, group = cases[0].n, cases[0].k, cases[0].group
    check_shape(n, k, group)
    _check_memory(n, k, max(case.m for case in cases), bool(peer_names))
    tensor = random_tensor(n, k, group)
    started = peers.start_peers(tensor, native.threads(), peer_names, note)
    ours: dict[str, Contender] = {one.op: one for one in our_contenders(tensor) if one.op in ops}
    for case in cases:
        x = random_activations(case.m, k)
        truth = checks.truth_of(tensor, x)
        errors: dict[str, float] = {}
        running: dict[str, Contender] = {}
        for name, contender in {**ours, **started}.items():
            fault = _fault(name, contender, truth, x, errors, is_ours=name in ours)
            if fault is None:
                running[name] = contender
            elif name in ours:
                raise WrongResult(f"[kernels] {name} N={n} K={k} G={group} M={case.m} {fault}")
            else:
                note(f"peer {name} not timed at N={n} K={k} M={case.m}: {fault}")
        result = take_turns(running, rounds, ceilings_of(running.values()))
        yield _rows(case, running, result, errors, list(ours), peer_names)


def _fault(
    name: str,
    contender: Contender,
    truth: checks.Truth,
    x: checks.FloatArray,
    errors: dict[str, float],
    *,
    is_ours: bool,
) -> str | None:
    """Why this contender must not be timed, or None; its relative error goes to `errors`."""
    try:
        contender.prepare(x)
        y = contender.first_output()
    except Exception as error:
        if is_ours:
            raise
        return peers.first_line(error)
    errors[name] = checks.relative_error(truth, y)
    if is_ours:
        return checks.fault_of_ours(truth, y, contender.op)
    return checks.fault_of_peer(errors[name], peers.PEERS[name].tolerance)


def _rows(
    case: Case,
    running: Mapping[str, Contender],
    result: Rounds,
    errors: Mapping[str, float],
    ours: Sequence[str],
    peer_names: Sequence[str],
) -> list[Row]:
    medians = {name: statistics.median(t.each_ns) for name, t in result.times.items()}
    raced = [name for name in peer_names if name in running]
    best = min(raced, key=medians.__getitem__) if raced else None
    rows = []
    for name in (*ours, *peer_names):
        if name in running:
            names = _Names(name, None if name in ours else name, best)
            rows.append(_timed(case, running[name], names, result, errors[name]))
        else:
            rows.append(_untimed(case, name, errors.get(name)))
    return rows


def _timed(
    case: Case,
    contender: Contender,
    names: _Names,
    result: Rounds,
    error: float,
) -> Row:
    name, peer, best = names
    times = result.times[name].each_ns
    each_ns = statistics.median(times)
    multiply_adds = case.n * case.k * case.m

    def share(ceiling: str | None, amount: float | None) -> float | None:
        values = result.ceilings.get(ceiling or "")
        if not values or amount is None:
            return None
        pairs = zip(times, values, strict=True)
        return PERCENT * statistics.median(amount * 1e9 / ns / value for ns, value in pairs)

    ratio = None
    if best is not None:
        pairs = zip(result.times[best].each_ns, times, strict=True)
        ratio = statistics.median(peer_ns / ns for peer_ns, ns in pairs)
    size = contender.weight_bytes
    return Row(
        op=contender.op,
        n=case.n,
        k=case.k,
        m=case.m,
        group=contender.group,
        isa=native.isa() if peer is None else None,
        threads=native.threads(),
        ms=each_ns / 1e6,
        ms_iqr=interquartile_range(times) / 1e6,
        weight_gb_per_s=None if size is None else size / each_ns,
        gflops=2 * multiply_adds / each_ns,
        percent_of_bandwidth=share("read_bandwidth", size),
        percent_of_compute=share(contender.ceiling, contender.operations * multiply_adds),
        rel_error=error,
        peer=peer,
        ratio_to_best_peer=ratio,
    )


def _untimed(case: Case, name: str, error: float | None) -> Row:
    return Row(
        op=peers.PEERS[name].op,
        n=case.n,
        k=case.k,
        m=case.m,
        group=None,
        isa=None,
        threads=native.threads(),
        ms=None,
        ms_iqr=None,
        weight_gb_per_s=None,
        gflops=None,
        percent_of_bandwidth=None,
        percent_of_compute=None,
        rel_error=error,
        peer=name,
        ratio_to_best_peer=None,
    )


def _check_memory(n: int, k: int, m: int, with_peers: bool) -> None:
    needed, there = needed_bytes(n, k, m, with_peers), available_bytes()
    if there is not None and needed > there:
        raise MemoryError(
            f"[kernels] N={n} K={k} takes about {needed / 2**30:.1f} GiB, this machine has "
            f"{there / 2**30:.1f} GiB free; take a smaller shape, or --peers none"
        )
