"""The stages of a check, in their order, and the time that each may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage: `run(log, request)` of the module `room`.

    limit_s: it is ended then.   least_s: it is not begun with less, and what is kept for it.
    item_limit_s: an item that takes longer is given up.
    """

    name: str
    title: str
    room: str
    limit_s: float
    least_s: float
    item_limit_s: float | None = None
    restarts: int = 0
    """How often a process that died may be followed by one that goes on behind what it did."""


OURS = "edgebench_kernels.cuda.check"
BESIDE = "gpu_stages"
"""Beside the script in kernels/perf: stages that need workloads and the harness, too."""

PREPARE = Stage(
    name="prepare",
    title="What later stages need of the CPU, beside the ones that compare kernels",
    room=f"{BESIDE}.prepare",
    limit_s=150,
    least_s=1,
)
LOUD = ("environment", "kernels", "suite")
"""Stages that PREPARE may run beside: none of them times anything that counts."""

PREPARED = ("decode-assistant", "bench")
"""Stages that need it."""

STAGES = (
    Stage(
        name="environment",
        title="Environment, ceilings, compile times",
        room=f"{OURS}.environment",
        limit_s=60,
        least_s=15,
    ),
    Stage(
        name="kernels",
        title="Every kernel against float64, on real and awkward shapes",
        room=f"{OURS}.real_shapes",
        limit_s=80,
        least_s=15,
        item_limit_s=25,
        restarts=4,
    ),
    Stage(
        name="suite",
        title="The emulation tests, on the GPU",
        room=f"{OURS}.suite",
        limit_s=75,
        least_s=15,
        restarts=1,
    ),
    Stage(
        name="timing",
        title="Linears of a Llama-3-8B layer",
        room=f"{OURS}.timing",
        limit_s=90,
        least_s=30,
        restarts=1,
    ),
    Stage(
        name="decode-8b",
        title="Decode of a random model of Llama-3-8B's shape",
        room=f"{OURS}.decode_8b",
        limit_s=90,
        least_s=30,
        restarts=1,
    ),
    Stage(
        name="decode-assistant",
        title="assistant@1b, accuracy gated",
        room=f"{BESIDE}.decode_assistant",
        limit_s=70,
        least_s=25,
        restarts=1,
    ),
    Stage(
        name="bench",
        title="bench run --track closed --device cuda",
        room=f"{BESIDE}.bench_run",
        limit_s=150,
        least_s=45,
    ),
    Stage(
        name="sanitizer",
        title="compute-sanitizer on the emulation tests",
        room=f"{OURS}.sanitizer",
        limit_s=75,
        least_s=15,
        restarts=1,
    ),
    Stage(
        name="tunings",
        title="Free choices of the linears, timed",
        room=f"{OURS}.tunings",
        limit_s=120,
        least_s=0,
        item_limit_s=30,
        restarts=6,
    ),
)


def chosen(names: str | None) -> tuple[Stage, ...]:
    """The stages of these names with commas, in the table's order; ValueError for an unknown one.

    None: all of them.
    """
    if names is None:
        return STAGES
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [stage.name for stage in STAGES]
    for name in wanted:
        if name not in known:
            raise ValueError(f"[gpu_check] expected stages out of {', '.join(known)}, got {name!r}")
    return tuple(stage for stage in STAGES if stage.name in wanted)


def limit_s(stages: tuple[Stage, ...], index: int, left_s: float) -> float | None:
    """How long a stage may take when so much time is left; None: too little to begin it.

    What the stages behind it need at least is kept for them.
    """
    stage = stages[index]
    kept = sum(later.least_s for later in stages[index + 1 :])
    given = min(stage.limit_s, left_s - kept)
    if given >= stage.least_s and given > 0:
        return given
    # Too little for all: the earlier stages count more.
    return min(stage.limit_s, left_s) if left_s >= max(stage.least_s, 1.0) else None
