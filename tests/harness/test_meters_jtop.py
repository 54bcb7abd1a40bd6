"""jtop: the real client of jetson-stats in its child process, on a service of the test's own."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from edgebench.meters import powercsv
from edgebench.meters.integrate import Source, integrate
from edgebench.meters.jtop import NO_SERVICE, JtopMeter
from edgebench.meters.sampler import PowerLog, Probed

pytestmark = [
    pytest.mark.meters,
    pytest.mark.skipif(
        find_spec("jtop") is None, reason="needs jetson-stats: pip install 'edgebench[test]'"
    ),
]
FAKE = Path(__file__).with_name("fake_jtop.py")
Serve = Callable[..., Path]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a service below a short root, because a socket's path has at most 107 bytes."""
    started = []
    with tempfile.TemporaryDirectory(prefix="jtop-") as folder:

        def start(interval_s: float = 0.1, behaviour: str = "normal") -> Path:
            root = Path(folder)
            (root / "run").mkdir()
            socket = root / "run/jtop.sock"
            command = [sys.executable, str(FAKE), str(socket), str(interval_s), behaviour]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            started.append(child)
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            return root

        yield start
        for child in started:
            child.kill()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()


@pytest.fixture
def meters() -> Iterator[list[JtopMeter]]:
    """Meters whose children end with the test."""
    made: list[JtopMeter] = []
    yield made
    for meter in made:
        meter.close()


def test_rails_arrive_and_only_what_may_be_added_is(serve: Serve, meters: list[JtopMeter]) -> None:
    root = serve()
    before = multiprocessing.get_start_method(allow_none=True)
    meters.append(meter := JtopMeter(root))
    probe = meter.probe()
    assert probe.ok, probe.reason
    assert probe.primary == "VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0"
    assert {domain.update_s for domain in probe.domains} == {0.1}
    # Importing jtop would have set this process's start method, and it never was.
    assert multiprocessing.get_start_method(allow_none=True) == before
    assert "jtop" not in sys.modules
    path = root / "power.csv"
    with PowerLog([Probed(meter=meter, probe=probe)], path, 0.05) as log:
        start_ns = log._clock_ns()
        while log._newest_ns.get("jtop", 0) < start_ns + 600_000_000:
            log._ticker._thread.join(0.05)
    times = powercsv.load(path)["jtop", "VDD_GPU_SOC"].t_ns
    energy = integrate(
        path, [(times[0], times[-1])], source=Source(meter="jtop", domain=probe.primary)
    )
    assert energy.status == "measured", energy.reason
    assert energy.mean_power_W == pytest.approx(17.21)  # jtop's own total says 18.41


def test_a_slow_service_is_followed_at_its_own_rate(serve: Serve, meters: list[JtopMeter]) -> None:
    meters.append(meter := JtopMeter(serve(interval_s=0.7)))
    probe = meter.probe()
    assert probe.ok, probe.reason
    assert {domain.update_s for domain in probe.domains} == {0.7}


def test_another_version_is_refused_with_its_advice(serve: Serve, meters: list[JtopMeter]) -> None:
    meters.append(meter := JtopMeter(serve(behaviour="old")))
    probe = meter.probe()
    assert not probe.ok
    assert "Mismatch version jtop service: [1.0.0]" in probe.reason
    assert "\n" not in probe.reason


def test_a_service_without_readings_is_refused(serve: Serve, meters: list[JtopMeter]) -> None:
    meters.append(meter := JtopMeter(serve(behaviour="mute"), patience_s=1.0))
    probe = meter.probe()
    assert not probe.ok
    assert probe.reason == "no reading within 1 s"


def test_a_service_that_dies_ends_the_meter_and_not_the_run(
    serve: Serve, meters: list[JtopMeter]
) -> None:
    root = serve(behaviour="dies")
    meters.append(meter := JtopMeter(root))
    probe = meter.probe()
    assert probe.ok, probe.reason
    with PowerLog([Probed(meter=meter, probe=probe)], root / "power.csv", 0.05) as log:
        while not log.failures:
            log._ticker._thread.join(0.05)
    assert "RuntimeError" in log.failures["jtop"]


def test_no_socket_is_no_service(tmp_path: Path) -> None:
    assert JtopMeter(tmp_path).probe().reason == NO_SERVICE


def test_a_socket_that_nobody_serves_is_no_service(serve: Serve, meters: list[JtopMeter]) -> None:
    root = serve(behaviour="normal")
    socket = root / "run/jtop.sock"
    socket.unlink()
    socket.touch()
    meters.append(meter := JtopMeter(root))
    assert "jtop.service" in meter.probe().reason


def test_a_socket_without_permission_says_what_the_client_says(serve: Serve) -> None:
    socket = serve() / "run/jtop.sock"
    socket.chmod(0)
    socket.parent.parent.chmod(0o755)
    # Root may open anything, so it becomes nobody once everything is imported.
    program = (
        "import os, jtop, sys, multiprocessing.synchronize\n"
        "from edgebench.meters import jtop_child\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "jtop_child.main(sys.argv[1], 0.1)"
    )
    command = [sys.executable, "-c", program, str(socket)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "can't access jtop.service" in done.stdout, done.stderr
