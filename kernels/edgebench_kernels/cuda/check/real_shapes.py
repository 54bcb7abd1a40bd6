"""The stage that holds every kernel against float64: `tests/cuda/real_shapes.py` on the GPU."""

from __future__ import annotations

import functools
from typing import Any

from edgebench_kernels.cuda.check.checkout import tests_module
from edgebench_kernels.cuda.check.events import Log
from edgebench_kernels.cuda.check.facts import gpu_facts
from edgebench_kernels.cuda.check.worker import Request
from edgebench_kernels.cuda.driver import Gpu


def run(log: Log, request: Request) -> None:
    """An item for each check; a GPU that is lost ends the process behind the item that lost it."""
    device = tests_module("gpu_device").Device.open()
    log.is_alive = lambda: device.lost is None
    for check in tests_module("real_shapes").checks(place()):
        log.item(check.name, functools.partial(_measured, check, device))


def place() -> Any:
    """The GPU as checks see it."""
    facts = gpu_facts(Gpu.open())
    return tests_module("real_check").Place(
        arch=facts.arch,
        multiprocessors=facts.multiprocessors,
        shared_bytes=facts.shared_bytes,
    )


def _measured(check: Any, device: Any) -> dict[str, Any]:
    measured: dict[str, Any] = check.run(device)
    return measured
