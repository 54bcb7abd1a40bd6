"""The power mode of a run: what its system file says of how much the machine was allowed to draw.

Two runs of one machine in different modes are different machines; they share no ranking.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

MODE_FIELDS = ("power_mode", "nvpmodel")
NAME_FIELDS = ("name", "id", "mode")


def power_mode(system: Mapping[str, JsonValue]) -> str:
    """Return the mode in words, e.g. 'MAXN' or 'governor powersave'; empty where nothing is known.

    Of a Jetson its nvpmodel mode, else the CPU's governor and the GPUs' power limits.
    """
    parts = [_mode(value) for name in MODE_FIELDS if (value := system.get(name))]
    cpu = system.get("cpu")
    if isinstance(cpu, dict) and isinstance(governor := cpu.get("governor"), str):
        parts.append(f"governor {governor}")
    gpus = system.get("gpus")
    parts += [
        f"GPU limit {limit:g} W"
        for gpu in (gpus if isinstance(gpus, list) else [])
        if isinstance(gpu, dict) and isinstance(limit := gpu.get("power_limit_W"), int | float)
    ]
    return ", ".join(dict.fromkeys(parts))


def _mode(value: JsonValue) -> str:
    if isinstance(value, dict):
        return " ".join(str(value[name]) for name in NAME_FIELDS if value.get(name) is not None)
    return str(value)
