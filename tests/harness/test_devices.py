"""The device catalog and the check of a requested device against the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgebench import machine
from edgebench.devices import (
    CHECKED_GPUS,
    DEVICES,
    is_on_gpu,
    require_multiprocessors,
    resolve,
)
from edgebench.errors import DeviceUnavailable, SpecError

AGX = ("NVIDIA Jetson AGX Orin Developer Kit", "nvidia,p3737-0000+p3701-0005", "nvidia,tegra234")
AGX_32 = ("NVIDIA Jetson AGX Orin", "nvidia,p3737-0000+p3701-0004", "nvidia,tegra234")
NANO = ("NVIDIA Jetson Orin Nano Developer Kit", "nvidia,p3768-0000+p3767-0005-super")
NX = ("NVIDIA Jetson Orin NX Engineering Reference Developer Kit", "nvidia,p3768-0000+p3767-0000")
THOR = ("NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008", "nvidia,tegra264")

# Published figures that the derived dense peaks must meet, in TFLOPS or TOPS; the sparse figures of
# the data sheets are halved, and what their DLAs add is taken off.
PUBLISHED = {
    ("orin", "int8"): 170 / 2,  # DS-10662-001 v1.8 p.7, GPU alone
    ("orin-32gb", "int8"): 108 / 2,  # the same
    ("orin-nx", "int8"): (100 - 40) / 2,  # DS-10712-001 p.1: 100, of which two DLAs give 20 each
    ("orin-nx-8gb", "int8"): (70 - 20) / 2,
    ("orin-nano", "int8"): 20.0,  # DS-11105-001 p.1: 40 sparse
    ("orin-nano-4gb", "int8"): 10.0,
    ("thor", "fp16"): 258.5,
    ("a100", "fp16"): 312.0,
    ("a100", "int8"): 624.0,
    ("a100-40gb", "fp16"): 312.0,
    ("a100-40gb", "int8"): 624.0,
    ("h100", "fp16"): 989.4,
    ("h100", "int8"): 1978.9,
    ("h200", "fp16"): 989.4,
    ("h200", "int8"): 1978.9,
    ("l4", "fp16"): 242 / 2,
    ("l4", "int8"): 485 / 2,
    ("rtx4090", "fp16"): 165.0,
    ("rtx4090", "int8"): 661.0,
}
AT_OTHER_CLOCKS = (
    ("orin-nano", 1.02, "int8", 67 / 2),  # NVIDIA's Super figure, sparse, without a DLA
    ("orin-nano-4gb", 1.02, "int8", 34 / 2),
    ("rtx4070-laptop", 1.62, "fp16", 29.86),  # hmc-tech.com, the 60 W variant
    ("rtx4070-laptop", 1.23, "fp16", 22.67),  # the same page, the 35 W variant
    ("orin-nx", 0.408, "fp16", 6.7),  # the clock that its "25W" mode caps the GPU at
)
X86 = "processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\nflags\t: fpu lm avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def jetson(root: Path, board: str, *compatible: str) -> Path:
    put(root, "proc/device-tree/model", board + "\0")
    put(root, "proc/device-tree/compatible", "\0".join(compatible) + "\0")
    put(root, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n")
    put(root, "proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd42\n")
    return root


def server(root: Path, *gpus: str) -> Path:
    put(root, "proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\n")
    version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23\n"
    put(root, "proc/driver/nvidia/version", version)
    for number, gpu in enumerate(gpus):
        where = f"proc/driver/nvidia/gpus/0000:0{number}:00.0/information"
        put(root, where, f"Model: \t\t {gpu}\nIRQ:   \t\t 55\nGPU UUID: \t GPU-1\n")
    return root


@pytest.mark.parametrize("name", DEVICES)
def test_every_row_has_a_source_for_every_number(name: str) -> None:
    device = DEVICES[name]
    assert device.title
    assert device.source
    cited = (device.multiprocessors, device.clock_GHz, device.bandwidth_GBps)
    assert all(number.source and number.value > 0 for number in cited if number is not None)
    assert device.rate is None or device.rate.source
    # A device that can be named must be recognisable.
    marks = (device.parts, device.gpus, device.cpus, device.architecture)
    assert name in ("cpu", "cuda") or any(marks)
    assert bool(device.parts) == bool(device.board)


@pytest.mark.parametrize(("name", "what"), PUBLISHED)
def test_derived_peaks_meet_the_published_figures(name: str, what: str) -> None:
    device = DEVICES[name]
    derived = device.fp16_ops_per_s if what == "fp16" else device.int8_ops_per_s
    assert derived is not None
    # Data sheets round to whole (sparse) TOPS: 40.96 is printed as 40.
    assert derived / 1e12 == pytest.approx(PUBLISHED[name, what], rel=0.025)


@pytest.mark.parametrize(("name", "clock_GHz", "what", "published"), AT_OTHER_CLOCKS)
def test_peaks_follow_the_clock(name: str, clock_GHz: float, what: str, published: float) -> None:
    peaks = DEVICES[name].peaks_at(clock_GHz)
    assert peaks is not None
    derived = peaks.fp16_ops_per_s if what == "fp16" else peaks.int8_ops_per_s
    assert derived / 1e12 == pytest.approx(published, rel=0.025)
    assert peaks.clock_GHz == clock_GHz


@pytest.mark.parametrize("name", [n for n, row in DEVICES.items() if row.super_mode])
def test_a_super_mode_is_faster_than_the_first_data_sheet(name: str) -> None:
    row = DEVICES[name]
    assert row.super_mode is not None
    assert row.clock_GHz is not None
    assert row.bandwidth_GBps is not None
    assert row.super_mode.clock_GHz.value > row.clock_GHz.value
    faster = row.super_mode.bandwidth_GBps
    assert faster is None or faster.value > row.bandwidth_GBps.value


def test_every_device_with_a_rate_is_checked_against_a_published_figure() -> None:
    checked = {name for name, _ in PUBLISHED} | {case[0] for case in AT_OTHER_CLOCKS}
    rated = {name for name, row in DEVICES.items() if row.rate and row.rate.verified}
    assert rated == checked


def test_what_was_not_read_is_marked() -> None:
    bandwidths = {name: row.bandwidth_GBps for name, row in DEVICES.items()}
    marked = {name for name, cited in bandwidths.items() if cited and not cited.verified}
    known = {f"apple-{chip}" for chip in ("m1", "m1-max", "m2", "m3", "m5", "m5-max")}
    assert marked == known


@pytest.mark.parametrize(
    ("name", "bits", "transfers_GTps"),
    [
        ("a100", 5120, 2 * 1.593),
        ("a100-40gb", 5120, 2 * 1.215),
        ("h200", 6 * 1024, 6.2),
        ("rtx4090", 384, 21.0),
        ("rtx4070-laptop", 128, 16.0),
        ("raspberry-pi-5", 32, 4.267),
        ("orin", 256, 6.4),
        ("orin-nx", 128, 6.4),
        ("orin-nano", 128, 4.25),
        ("orin-nano-4gb", 64, 4.25),
        ("apple-m3-ultra", 1024, 6.4),
    ],
)
def test_bandwidths_are_bus_width_times_rate(name: str, bits: int, transfers_GTps: float) -> None:
    cited = DEVICES[name].bandwidth_GBps
    assert cited is not None
    assert cited.value == pytest.approx(bits / 8 * transfers_GTps, rel=0.01)


def test_no_number_is_made_up_where_no_source_states_it() -> None:
    assert DEVICES["cpu"].fp16_ops_per_s is None
    assert DEVICES["cuda"].int8_ops_per_s is None


def test_no_two_rows_claim_the_same_hardware() -> None:
    claims = [claim for row in DEVICES.values() for claim in (*row.parts, *row.gpus, *row.cpus)]
    assert len(claims) == len(set(claims))


def test_cpu_is_always_there(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "model name : AMD EPYC\n")
    resolved = resolve("cpu", tmp_path)
    assert (resolved.name, resolved.backend) == ("cpu", "cpu")
    assert resolved.executed_on == "CPU kernels on AMD EPYC"
    assert resolve("auto", tmp_path).name == "cpu"
    assert resolve("auto", tmp_path).requested == "auto"


def test_an_empty_machine_has_a_cpu_of_unknown_model(tmp_path: Path) -> None:
    assert resolve("auto", tmp_path).executed_on == "CPU kernels on unnamed CPU"


@pytest.mark.parametrize("name", ["orin", "orin-nano", "thor", "h100", "cuda"])
def test_a_device_that_is_not_here_says_what_was_found(name: str, tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "model name : AMD EPYC\n")
    with pytest.raises(DeviceUnavailable) as caught:
        resolve(name, tmp_path)
    assert caught.value.exit_code == 3
    text = str(caught.value)
    assert text.startswith(f"[--device] expected {DEVICES[name].title}, found ")
    for part in ("no device-tree model", "no NVIDIA driver", "no NVIDIA GPU", "AMD EPYC"):
        assert part in text
    assert "use --device cpu" in text
    assert "\n" not in text


@pytest.mark.parametrize(("came", "nearest"), [("orn", "orin"), ("cpuu", "cpu"), ("H200", "h200")])
def test_an_unknown_name_suggests_the_nearest(came: str, nearest: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"got '{came}'; did you mean '{nearest}'"):
        resolve(came, tmp_path)


@pytest.mark.parametrize(
    ("name", "board"),
    [("orin", AGX), ("orin-32gb", AGX_32), ("orin-nano", NANO), ("orin-nx", NX), ("thor", THOR)],
)
def test_each_board_is_told_by_its_part_number(
    name: str, board: tuple[str, ...], tmp_path: Path
) -> None:
    jetson(tmp_path, *board)
    assert resolve("auto", tmp_path).name == name
    resolved = resolve(name, tmp_path)
    assert resolved.name == name
    assert resolved.backend == "cuda"
    assert resolved.executed_on == f"GPU kernels on {DEVICES[name].title}"
    assert not resolved.notes


def test_a_sister_board_is_refused_and_named(tmp_path: Path) -> None:
    jetson(tmp_path, *AGX_32)
    with pytest.raises(DeviceUnavailable, match=r"L4T R36\.4\.3.*use --device orin-32gb"):
        resolve("orin", tmp_path)
    with pytest.raises(DeviceUnavailable, match="board 'NVIDIA Jetson AGX Orin'"):
        resolve("orin-nano", tmp_path)


def test_a_board_without_part_number_is_taken_with_a_note(tmp_path: Path) -> None:
    jetson(tmp_path, AGX[0], "vendor,carrier")
    resolved = resolve("orin", tmp_path)
    assert "part number unknown" in resolved.notes[0]
    assert resolve("auto", tmp_path).name == "cpu"
    with pytest.raises(DeviceUnavailable):
        resolve("orin-nx", tmp_path)


def test_cuda_is_any_nvidia_gpu(tmp_path: Path) -> None:
    assert resolve("cuda", server(tmp_path / "h", "NVIDIA H200")).name == "cuda"
    assert resolve("cuda", jetson(tmp_path / "o", *AGX)).name == "cuda"
    assert resolve("cuda", tmp_path / "h").executed_on == "GPU kernels on NVIDIA H200"


def test_gpus_are_told_by_their_exact_name(tmp_path: Path) -> None:
    assert resolve("h200", server(tmp_path / "a", "NVIDIA H200")).name == "h200"
    with pytest.raises(DeviceUnavailable, match="GPU NVIDIA L40S"):
        resolve("l4", server(tmp_path / "b", "NVIDIA L40S"))
    with pytest.raises(DeviceUnavailable, match="use --device h200"):
        resolve("h100", tmp_path / "a")


def test_a_gpu_has_to_be_asked_for_by_name(tmp_path: Path) -> None:
    resolved = resolve("auto", jetson(tmp_path / "o", *AGX))
    assert (resolved.name, resolved.backend) == ("orin", "cpu")
    assert "has to be asked for by name" in resolved.executed_on
    rare = resolve("auto", server(tmp_path / "r", "NVIDIA Rare"))
    assert (rare.name, rare.backend) == ("cpu", "cpu")
    assert rare.notes == ("NVIDIA Rare is present and was not used",)


def test_auto_takes_a_gpu_on_which_the_kernels_were_checked(tmp_path: Path) -> None:
    resolved = resolve("auto", server(tmp_path, "NVIDIA H200"))
    assert (resolved.name, resolved.backend) == ("h200", "cuda")
    assert set(CHECKED_GPUS) <= set(DEVICES)


def test_a_record_tells_where_kernels_ran(tmp_path: Path) -> None:
    assert is_on_gpu(resolve("cuda", server(tmp_path / "a", "NVIDIA H200")).executed_on)
    assert not is_on_gpu(resolve("cpu", server(tmp_path / "b", "NVIDIA H200")).executed_on)


@pytest.mark.parametrize(("name", "cpuinfo"), [("x86-64", X86), ("aarch64", ARM)])
def test_a_cpu_of_any_make_is_told_by_its_instruction_set(
    name: str, cpuinfo: str, tmp_path: Path
) -> None:
    put(tmp_path, "proc/cpuinfo", cpuinfo)
    assert resolve(name, tmp_path).backend == "cpu"
    with pytest.raises(DeviceUnavailable, match="no NVIDIA GPU"):
        resolve("aarch64" if name == "x86-64" else "x86-64", tmp_path)


def test_a_raspberry_pi_is_no_jetson(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", ARM)
    put(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    put(tmp_path, "proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert not machine.inspect(tmp_path).is_jetson
    assert resolve("auto", tmp_path).name == "raspberry-pi-5"
    assert resolve("raspberry-pi-5", tmp_path).executed_on == "CPU kernels on Arm Cortex-A76"
    with pytest.raises(DeviceUnavailable, match="use --device raspberry-pi-5"):
        resolve("orin", tmp_path)


def test_an_apple_chip_is_told_by_its_exact_name(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "model name\t: Apple M4 Pro\n")
    assert resolve("apple-m4-pro", tmp_path).backend == "cpu"
    with pytest.raises(DeviceUnavailable, match="use --device apple-m4-pro"):
        resolve("apple-m4", tmp_path)


def test_the_gpu_must_have_the_multiprocessors_of_its_row() -> None:
    require_multiprocessors("orin", 16)
    require_multiprocessors("orin", None)  # kernels on the CPU count none
    require_multiprocessors("cuda", 7)  # any GPU
    with pytest.raises(
        DeviceUnavailable, match=r"CUDA counts 14; use --device orin-32gb"
    ) as caught:
        require_multiprocessors("orin", 14)
    assert caught.value.exit_code == 3
    with pytest.raises(DeviceUnavailable, match="use --device cuda, or leave MIG off"):
        require_multiprocessors("a100", 14)


def test_a_driver_without_names_still_counts_its_device_nodes(tmp_path: Path) -> None:
    put(tmp_path, "dev/nvidia0", "")
    put(tmp_path, "dev/nvidiactl", "")
    found = machine.inspect(tmp_path)
    assert found.nvidia_gpus == ("NVIDIA GPU of unknown model",)
    assert resolve("cuda", tmp_path).name == "cuda"


def test_a_tree_of_files_is_a_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(machine.ROOT_VARIABLE, raising=False)
    assert not machine.is_simulated(machine.find_root())
    jetson(tmp_path, *AGX)
    monkeypatch.setenv(machine.ROOT_VARIABLE, str(tmp_path))
    root = machine.find_root()
    assert machine.is_simulated(root)
    resolved = resolve("orin", root, simulated=True)
    assert (resolved.backend, resolved.simulated) == ("cpu", True)
    assert "for a simulated NVIDIA Jetson AGX Orin 64GB" in resolved.executed_on
    assert not is_on_gpu(resolved.executed_on)
    assert resolved.notes[-1].startswith("SIMULATED: ")
    with pytest.raises(DeviceUnavailable):  # it is checked against the tree all the same
        resolve("thor", root, simulated=True)
    monkeypatch.setenv(machine.ROOT_VARIABLE, str(tmp_path / "no"))
    with pytest.raises(SpecError, match=r"\[EDGEBENCH_ROOT\] expected a folder"):
        machine.find_root()
