"""A jtop.service without a Jetson: jetson-stats' own manager on a private socket.

`python fake_jtop.py SOCKET INTERVAL_S BEHAVIOUR`: prints "ready", then serves until it is killed.
Behaviours: normal, old (another version), mute (never a reading), dies (after five readings).
"""

from __future__ import annotations

import importlib
import os
import queue
import sys
import threading
import time
from typing import Any

RAILS = {"VDD_GPU_SOC": 9120, "VDD_CPU_CV": 3040, "VIN_SYS_5V0": 5050, "VDDQ_VDD2_1V8AO": 1200}


def frame() -> dict[str, Any]:
    """One reading as the service sends it; its total adds all four rails, as jtop's does."""
    rail = {"type": "INA3221", "volt": 5000, "curr": 1, "avg": 1, "online": True}
    rails = {name: {**rail, "power": power_mW} for name, power_mW in RAILS.items()}
    return {
        "gpu": {},
        "mem": {"RAM": {"tot": 1, "used": 0, "free": 1}, "SWAP": {"tot": 0, "used": 0}},
        "fan": {},
        "power": {"rail": rails, "tot": {"power": sum(RAILS.values()), "avg": 1}},
    }


def configuration(version: str, interval_s: float) -> dict[str, Any]:
    """What the service answers to a client that connects."""
    return {
        "init": {
            "version": version,
            "board": {"hardware": {"Model": "NVIDIA Jetson AGX Orin Developer Kit"}},
            "interval": interval_s,
            "memory": "",
            "fan": {},
            "jc": False,
        }
    }


def serve(socket: str, interval_s: float, behaviour: str) -> None:
    """Serve one reading each interval."""
    service = importlib.import_module("jtop.service")
    version = importlib.import_module("jtop").__version__ if behaviour != "old" else "1.0.0"
    service.JTOP_PIPE = socket
    commands: queue.Queue[dict[str, Any]] = queue.Queue()
    data: dict[str, Any] = {}
    event = threading.Event()
    manager = service.JtopManager
    manager.register("get_queue", callable=lambda: commands)
    manager.register("sync_data", callable=lambda: data)
    manager.register("sync_event", callable=lambda: event)
    server = manager().get_server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    threading.Thread(
        target=answer, args=(commands, configuration(version, interval_s)), daemon=True
    ).start()
    print("ready", flush=True)
    for number in range(1_000_000):
        if behaviour != "mute":
            data.update(frame())
            event.set()
        if behaviour == "dies" and number == 5 / interval_s * 0.1 + 20:
            os._exit(1)
        time.sleep(interval_s)


def answer(commands: queue.Queue[dict[str, Any]], settings: dict[str, Any]) -> None:
    """Answer every client that asks for the configuration."""
    while True:
        command = commands.get()
        if "init" in command:
            commands.put(command)  # not ours: the client has not fetched it yet
            time.sleep(0.005)
        elif "interval" in command:
            commands.put(settings)


if __name__ == "__main__":
    serve(sys.argv[1], float(sys.argv[2]), sys.argv[3])
