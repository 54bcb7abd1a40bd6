"""`systems/<system>.json`, `measurements.json`: MLPerf's fields from what the bundle recorded."""

from __future__ import annotations

from edgebench.mlperf.kernel_run import NOTICE, UNKNOWN, KernelRun
from edgebench.units import format_bytes, format_number

STATUS = "rdi"  # research, development or internal: what nobody declared available (MLPerf rules)
SYSTEM_TYPE = "edge"


def _or_unknown(value: object) -> str:
    return UNKNOWN if value is None else str(value)


def system_fields(run: KernelRun) -> dict[str, object]:
    """Return every field that the checker demands; what the bundle does not say is N/A."""
    system, record = run.bundle.system, run.record
    cpu, software = system.cpu, system.software
    packages = ", ".join(f"{name} {version}" for name, version in software.packages.items())
    frequency = cpu.frequency_max_MHz
    return {
        "notice": NOTICE,
        "division": record.track,
        "submitter": record.organisation,
        "status": STATUS,
        "system_type": SYSTEM_TYPE,
        "system_type_detail": UNKNOWN,
        "system_name": record.system,
        "number_of_nodes": 1,
        "host_processor_model_name": cpu.model,
        "host_processors_per_node": UNKNOWN,
        "host_processor_core_count": cpu.cores_online,
        "host_processor_frequency": f"{format_number(frequency)} MHz" if frequency else UNKNOWN,
        "host_processor_caches": _cache(cpu.last_level_cache_bytes),
        "host_processor_interconnect": UNKNOWN,
        "host_memory_capacity": _size(system.memory.total_bytes),
        "host_memory_configuration": UNKNOWN,
        "host_storage_capacity": UNKNOWN,
        "host_storage_type": UNKNOWN,
        "host_networking": UNKNOWN,
        "host_networking_topology": UNKNOWN,
        "host_network_card_count": UNKNOWN,
        **_accelerators(run),
        "cooling": UNKNOWN,
        "framework": f"EdgeBench {record.provenance.tool_version}",
        "other_software_stack": packages or UNKNOWN,
        "operating_system": _or_unknown(system.kernel.distribution or system.kernel.release),
        "hw_notes": f"threads: {record.host.threads}; hypervisor: "
        f"{_or_unknown(system.kernel.hypervisor)}",
        "sw_notes": f"{NOTICE} Executed: {run.result.executed_path}.",
    }


def _size(size_bytes: int | None) -> str:
    return UNKNOWN if size_bytes is None else format_bytes(size_bytes)


def _cache(size_bytes: int | None) -> str:
    return UNKNOWN if size_bytes is None else f"last level {format_bytes(size_bytes)}"


def _accelerators(run: KernelRun) -> dict[str, object]:
    """Return the accelerator fields; the count is text, because the checker takes 0 for empty."""
    gpus = run.bundle.system.gpus
    first = gpus[0] if gpus else None
    memory_bytes = first.memory_bytes if first else None
    clock = first.clock_max_MHz if first else None
    names = (
        "accelerator_memory_configuration",
        "accelerator_host_interconnect",
        "accelerator_interconnect",
        "accelerator_interconnect_topology",
        "accelerator_on-chip_memories",
    )
    return {
        "accelerators_per_node": str(len(gpus)),
        "accelerator_model_name": first.name if first else UNKNOWN,
        "accelerator_memory_capacity": _size(memory_bytes),
        "accelerator_frequency": f"{clock} MHz" if clock else UNKNOWN,
        **dict.fromkeys(names, UNKNOWN),
    }


def measurement_fields(run: KernelRun) -> dict[str, object]:
    """Return `measurements.json`: weights, where they come from, what was done to them."""
    steps = [
        f"{step.transform}({', '.join(f'{k}={v}' for k, v in step.parameters.items())})"
        for step in run.bundle.ledger.steps
    ]
    is_reference = run.result.kernel == "fp16"
    closed = run.record.track == "closed"
    return {
        "notice": NOTICE,
        "input_data_types": "int64" if run.is_streamed else "fp32",  # token ids, or pixels
        "retraining": "No" if closed or is_reference else UNKNOWN,
        "starting_weights_filename": f"model.safetensors, sha256 {run.workload.reference_sha256}",
        "weight_data_types": run.result.kernel,
        "weight_transformations": "none" if is_reference else " + ".join(steps),
    }
