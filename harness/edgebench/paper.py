"""`bench estimate`: the roofline bound on paper, for a device that need not be here.

A bound says how fast weights could be streamed and multiplied if nothing else took time: attention
scores, the KV cache, launches and everything between them are left out, so a measured run is
slower. It uses the catalog's dense peaks and bandwidth and is never a record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from edgebench import markdown as table
from edgebench.device_catalog import DEVICES, Device
from edgebench.errors import SpecError, unknown_name
from edgebench.record import Kernel
from edgebench.roofline import Model
from edgebench.transform.rtn import DEFAULT_GROUP
from edgebench.units import format_bytes, format_number, format_si

FP16_BYTES = 2.0
SCALE_BYTES = 3.0  # of a group: an fp16 scale and a zero point of one byte
BYTES_PER_WEIGHT: Mapping[Kernel, float] = {
    "fp16": FP16_BYTES,
    "int4": 0.5 + SCALE_BYTES / DEFAULT_GROUP,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The bound of one kernel: decoding one token for each sequence of a batch."""

    device: str
    kernel: Kernel
    batch: int
    clock_GHz: float | None
    weight_bytes: float
    operations: float
    memory_s: float
    compute_s: float | None
    """None where no dense peak is published."""

    @property
    def step_s(self) -> float:
        """The longer of the two."""
        return max(self.memory_s, self.compute_s or 0.0)

    @property
    def bound(self) -> str:
        """Which of the two it is."""
        return "compute" if (self.compute_s or 0.0) > self.memory_s else "memory"

    @property
    def tokens_per_s(self) -> float:
        """Of all sequences together."""
        return self.batch / self.step_s


def bound_of(
    device: Device, model: Model, kernel: Kernel, *, batch: int = 1, clock_GHz: float | None = None
) -> Bound:
    """Bound a decode step; SpecError where the catalog has no bandwidth for the device."""
    if device.bandwidth_GBps is None:
        raise SpecError(
            "[estimate] expected a device whose bandwidth is published, got "
            f"{device.title!r}; measure it instead: bench run"
        )
    weights = model.body_weights + model.head_weights
    weight_bytes = weights * BYTES_PER_WEIGHT[kernel]
    operations = float(batch * model.operations_per_token)
    peaks = device.peaks_at(clock_GHz)
    return Bound(
        device=device.title,
        kernel=kernel,
        batch=batch,
        clock_GHz=peaks.clock_GHz if peaks else None,
        weight_bytes=weight_bytes,
        operations=operations,
        memory_s=weight_bytes / (device.bandwidth_GBps.value * 1e9),
        compute_s=operations / peaks.fp16_ops_per_s if peaks else None,
    )


def model_on_paper(workload: str) -> Model:
    """Count a workload's linear weights from its config alone; nothing is generated or loaded."""
    from edgebench_workloads.catalog import WORKLOADS
    from edgebench_workloads.widen import widen_config

    if workload not in WORKLOADS:
        raise unknown_name("estimate", "workload", workload, WORKLOADS)
    row = WORKLOADS[workload]
    config_file = row.folder / "model" / "config.json"
    if not config_file.is_file() or row.kind != "text":
        raise SpecError(
            f"[estimate] expected a workload of one language model, got {workload!r}; "
            "see `bench list workloads`"
        )
    config = json.loads(config_file.read_text(encoding="utf-8"))
    plan = row.plan
    return count_weights(config if plan is None else widen_config(config, plan.replicas))


def count_weights(config: Mapping[str, int]) -> Model:
    """Count the weights of a Llama's linear layers and of its head, from a `config.json`."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_size = config.get("head_dim") or hidden // heads
    queries = heads * head_size
    keys = config.get("num_key_value_heads", heads) * head_size
    layer = hidden * (2 * queries + 2 * keys + 3 * config["intermediate_size"])
    return Model(
        body_weights=config["num_hidden_layers"] * layer,
        head_weights=config["vocab_size"] * hidden,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateOptions:
    """What `bench estimate` was asked for, as typed."""

    device: str
    workload: str = "assistant@1b"
    kernel: str = "fp16,int4"
    batch: int = 1
    clock: float | None = None
    super_mode: bool = False


def estimate_command(options: EstimateOptions, form: str) -> str:
    """Return what `bench estimate` prints; SpecError for a name that is not known."""
    if options.device not in DEVICES:
        raise unknown_name("estimate", "device", options.device, DEVICES)
    if form not in ("md", "json"):
        raise unknown_name("estimate", "format", form, ("md", "json"))
    device = DEVICES[options.device]
    if options.super_mode:
        faster = device.in_super_mode()
        if faster is None:
            raise SpecError(f"[estimate] expected a device with a Super mode, got {device.title!r}")
        device = faster
    model = model_on_paper(options.workload)
    bounds = [
        bound_of(device, model, kernel, batch=options.batch, clock_GHz=options.clock)
        for kernel in _kernels(options.kernel)
    ]
    if form == "json":
        return json.dumps([_as_json(bound) for bound in bounds], indent=2)
    return "\n".join(_table(options.workload, device, bounds))


def _kernels(text: str) -> list[Kernel]:
    chosen: list[Kernel] = []
    for name in (part.strip() for part in text.split(",") if part.strip()):
        known = next((kernel for kernel in BYTES_PER_WEIGHT if kernel == name), None)
        if known is None:
            raise unknown_name("estimate", "kernel", name, BYTES_PER_WEIGHT)
        chosen.append(known)
    if not chosen:
        raise SpecError(f"[estimate] expected a kernel, got {text!r}")
    return chosen


def _as_json(bound: Bound) -> dict[str, object]:
    return {
        **asdict(bound),
        "step_s": bound.step_s,
        "bound": bound.bound,
        "tokens_per_s": bound.tokens_per_s,
        "is_measured": False,
    }


TITLES = (
    "kernel", "batch", "weights", "a step reads for", "computes for", "bound", "time per token",
    "tokens/s at most",
)  # fmt: skip


def _table(workload: str, device: Device, bounds: list[Bound]) -> list[str]:
    lines = [
        f"{workload} on {device.title}: a bound on paper, not a measurement",
        "",
        *table.header(TITLES),
    ]
    for bound in bounds:
        cells = (
            bound.kernel,
            str(bound.batch),
            format_bytes(bound.weight_bytes),
            format_si(bound.memory_s, "s"),
            format_si(bound.compute_s, "s"),
            bound.bound,
            format_si(bound.step_s, "s"),
            format_number(bound.tokens_per_s),
        )
        lines.append(table.row(cells))
    return [*lines, "", *_premises(device, bounds[0])]


def _premises(device: Device, bound: Bound) -> list[str]:
    """What the bound rests on, with its sources."""
    bandwidth = device.bandwidth_GBps
    assert bandwidth is not None
    unread = "" if bandwidth.verified else " (not read at its source)"
    lines = [f"bandwidth: {bandwidth.value:g} GB/s, {bandwidth.source}{unread}"]
    peaks = device.peaks_at(bound.clock_GHz)
    if peaks is None or device.rate is None:
        return [*lines, "compute: no dense peak is published, so memory alone bounds"]
    rate = f"{format_si(peaks.fp16_ops_per_s, 'FLOP/s')} dense fp16 at {peaks.clock_GHz:g} GHz"
    lines.append(f"compute: {rate}, {device.rate.source}")
    if device.super_mode is not None and device.clock_GHz != device.super_mode.clock_GHz:
        lines.append("MAXN_SUPER is faster: --super")
    return lines
