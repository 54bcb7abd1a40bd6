"""`system.json`: the machine as the tool found it, never as somebody typed it in.

It names no host, user, serial number or address. What could not be read is None, and `unknown` says
why; a virtual machine, for instance, often shows neither governor nor frequencies.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from edgebench import gpus, machine, provenance
from edgebench.devices import DEVICES, identify
from edgebench.jetson import Jetson, describe_jetson
from edgebench.machine import read_int, read_text
from edgebench.record import Count, Name, NonNegative, StrictModel, Text

# The vendors that virtual machines show in DMI. Source: systemd, src/basic/virt.c.
HYPERVISORS = {
    "QEMU": "QEMU/KVM",
    "KVM": "KVM",
    "Amazon EC2": "Amazon EC2",
    "Google": "Google Compute Engine",
    "Microsoft Corporation": "Hyper-V",
    "VMware": "VMware",
    "innotek GmbH": "VirtualBox",
    "Xen": "Xen",
    "Parallels": "Parallels",
    "Apple Virtualization": "Apple Virtualization",
}


class Cpu(StrictModel):
    """The processor and how much of it this run could use."""

    model: Text
    microcode: Text | None = None
    cores_online: Count
    cores_usable: Count = Field(description="in this process's affinity mask")
    isa: Text = Field(description="the widest instruction set that the kernels could use")
    flags: list[Text] = Field(description="only those that kernels choose their path by")
    last_level_cache_bytes: Count | None = None
    governor: Text | None = None
    frequency_now_MHz: NonNegative | None = None
    frequency_min_MHz: NonNegative | None = None
    frequency_max_MHz: NonNegative | None = None
    turbo: bool | None = None
    threads_per_core: Count | None = None


class Memory(StrictModel):
    """Main memory when the run began."""

    total_bytes: Count | None = None
    available_bytes: Count | None = None
    swap_total_bytes: Count | None = None
    swap_free_bytes: Count | None = None
    huge_pages: Text | None = Field(default=None, description="transparent huge pages' mode")
    huge_pages_reserved: Count | None = None


class Kernel(StrictModel):
    """The operating system and what stands between it and the hardware."""

    release: Text | None = None
    distribution: Text | None = None
    hypervisor: Text | None = Field(default=None, description="None on bare metal")
    container: Text | None = Field(default=None, description="None outside of one")
    aslr: Count | None = Field(default=None, description="kernel.randomize_va_space")
    uptime_s: Count | None = None
    load_average: tuple[NonNegative, NonNegative, NonNegative] | None = None


class Software(StrictModel):
    """The code that ran and how it was called."""

    packages: dict[Text, Text]
    git_commit: Text | None = None
    git_dirty: bool | None = None
    command: Text
    environment: dict[Text, Text]


class CatalogPeaks(StrictModel):
    """What the catalog says that this device reaches: at its clock, and as it is allowed to run."""

    device: Name
    clock_GHz: NonNegative | None = None
    fp16_ops_per_s: NonNegative | None = Field(default=None, description="dense")
    int8_ops_per_s: NonNegative | None = Field(default=None, description="dense")
    bandwidth_GBps: NonNegative | None = None
    allowed_clock_GHz: NonNegative | None = Field(
        default=None, description="the highest that power mode or driver allow here"
    )
    allowed_fp16_ops_per_s: NonNegative | None = None
    allowed_int8_ops_per_s: NonNegative | None = None


class SystemDescription(StrictModel):
    """`system.json`."""

    schema_version: Literal[1] = 1
    name: Name
    board: Text | None = Field(default=None, description="device-tree model")
    tegra_release: Text | None = None
    nvidia_driver: Text | None = None
    cpu: Cpu
    memory: Memory
    gpus: list[gpus.Gpu]
    jetson: Jetson | None = None
    catalog: CatalogPeaks | None = Field(default=None, description="null: not in the catalog")
    kernel: Kernel
    software: Software
    unknown: dict[Text, Text] = Field(description="field -> why it is None")


def system_name(root: Path = machine.ROOT) -> str:
    """Derive the machine's name from its parts, e.g. 'AMD-EPYC-2c-avx512_vnni'; a `record.Name`."""
    found = machine.inspect(root)
    title = found.board or next(iter(found.nvidia_gpus), "")
    cpu = re.sub(r"\((?:R|TM|C)\)|\bCPU\b|@.*|\bProcessor\b|\b\d+-Core\b", " ", found.cpu_model)
    isa = machine.best_isa(machine.cpu_flags(root))
    words = re.split(r"[^A-Za-z0-9._]+", f"{title} {cpu} {usable_cores(root)}c {isa}")
    return "-".join(filter(None, words)).lstrip("._-")[:100]


def usable_cores(root: Path = machine.ROOT) -> int:
    """Count the cores that this process may run on."""
    if root == machine.ROOT and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return _online_cores(root)


def describe_system(root: Path = machine.ROOT) -> SystemDescription:
    """Collect the description; takes some milliseconds and starts nothing but git."""
    found = machine.inspect(root)
    state = provenance.git_state()
    cpu = _cpu(root)
    kernel = _kernel(root)
    boards = gpus.describe_gpus(found.nvidia_gpus, root)
    jetson = describe_jetson(root)
    return SystemDescription(
        name=system_name(root),
        board=found.board,
        tegra_release=found.tegra_release,
        nvidia_driver=found.nvidia_driver,
        cpu=cpu,
        memory=_memory(root),
        gpus=boards,
        jetson=jetson,
        catalog=_catalog(identify(found), jetson, boards),
        kernel=kernel,
        software=Software(
            packages=provenance.package_versions(),
            git_commit=state[0] if state else None,
            git_dirty=state[1] if state else None,
            command=provenance.command_line()[:2000],
            environment=provenance.environment(),
        ),
        unknown=_unknown(cpu, kernel, has_git=state is not None),
    )


def _catalog(
    name: str | None, jetson: Jetson | None, boards: list[gpus.Gpu]
) -> CatalogPeaks | None:
    """The catalog's peaks at its own clock, and at the highest that this machine allows."""
    if name is None:
        return None
    device = DEVICES[name]
    allowed_MHz = (
        jetson.gpu_clock_max_MHz if jetson else boards[0].clock_max_MHz if boards else None
    )
    nominal = device.peaks_at()
    allowed = device.peaks_at(allowed_MHz / 1000) if allowed_MHz else None
    return CatalogPeaks(
        device=name,
        clock_GHz=nominal.clock_GHz if nominal else None,
        fp16_ops_per_s=nominal.fp16_ops_per_s if nominal else None,
        int8_ops_per_s=nominal.int8_ops_per_s if nominal else None,
        bandwidth_GBps=device.bandwidth_GBps.value if device.bandwidth_GBps else None,
        allowed_clock_GHz=allowed.clock_GHz if allowed else None,
        allowed_fp16_ops_per_s=allowed.fp16_ops_per_s if allowed else None,
        allowed_int8_ops_per_s=allowed.int8_ops_per_s if allowed else None,
    )


def _cpu(root: Path) -> Cpu:
    fields = machine.cpu_info(root)
    flags = machine.cpu_flags(root)
    policy = root / "sys/devices/system/cpu/cpu0/cpufreq"
    now, low, high = (
        read_int(policy / f"{name}_freq") for name in ("scaling_cur", "scaling_min", "scaling_max")
    )
    siblings = read_text(root / "sys/devices/system/cpu/cpu0/topology/thread_siblings_list")
    return Cpu(
        model=machine.cpu_model(root),
        microcode=fields.get("microcode"),
        cores_online=_online_cores(root),
        cores_usable=usable_cores(root),
        isa=machine.best_isa(flags),
        flags=list(flags),
        last_level_cache_bytes=machine.last_level_cache_bytes(root),
        governor=read_text(policy / "scaling_governor"),
        frequency_now_MHz=None if now is None else now / 1000,
        frequency_min_MHz=None if low is None else low / 1000,
        frequency_max_MHz=None if high is None else high / 1000,
        turbo=_turbo(root),
        threads_per_core=_count_list(siblings) if siblings else None,
    )


def _turbo(root: Path) -> bool | None:
    """Tell whether clocks may exceed the base clock: Intel's file says no, cpufreq's says yes."""
    base = root / "sys/devices/system/cpu"
    off = read_int(base / "intel_pstate/no_turbo")
    if off is not None:
        return off == 0
    on = read_int(base / "cpufreq/boost")
    return None if on is None else on == 1


def _online_cores(root: Path) -> int:
    listed = read_text(root / "sys/devices/system/cpu/online")
    if listed:
        return _count_list(listed)
    processors = re.findall(r"^processor\s*:", read_text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return max(len(processors), 1)


def _count_list(text: str) -> int:
    """Count the members of a kernel list such as '0-3,8'."""
    ranges = re.findall(r"(\d+)(?:-(\d+))?", text)
    return sum(int(last or first) - int(first) + 1 for first, last in ranges)


def _memory(root: Path) -> Memory:
    text = read_text(root / "proc/meminfo") or ""
    kilobytes = {name: int(n) for name, n in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    sizes = {name: value * 1024 for name, value in kilobytes.items()}
    pages = re.search(
        r"\[(\w+)\]", read_text(root / "sys/kernel/mm/transparent_hugepage/enabled") or ""
    )
    return Memory(
        total_bytes=sizes.get("MemTotal"),
        available_bytes=sizes.get("MemAvailable"),
        swap_total_bytes=sizes.get("SwapTotal"),
        swap_free_bytes=sizes.get("SwapFree"),
        huge_pages=pages[1] if pages else None,
        huge_pages_reserved=read_int(root / "proc/sys/vm/nr_hugepages"),
    )


def _kernel(root: Path) -> Kernel:
    name = re.search(
        r'^PRETTY_NAME="?([^"\n]+)', read_text(root / "etc/os-release") or "", re.MULTILINE
    )
    uptime = re.match(r"(\d+)", read_text(root / "proc/uptime") or "")
    load = re.match(r"([\d.]+) ([\d.]+) ([\d.]+)", read_text(root / "proc/loadavg") or "")
    return Kernel(
        release=read_text(root / "proc/sys/kernel/osrelease"),
        distribution=name[1] if name else None,
        hypervisor=_hypervisor(root),
        container=_container(root),
        aslr=read_int(root / "proc/sys/kernel/randomize_va_space"),
        uptime_s=int(uptime[1]) if uptime else None,
        load_average=(float(load[1]), float(load[2]), float(load[3])) if load else None,
    )


def _hypervisor(root: Path) -> str | None:
    if "microsoft" in (read_text(root / "proc/sys/kernel/osrelease") or "").lower():
        return "WSL"
    is_guest = "hypervisor" in (machine.cpu_info(root).get("flags") or "").split()
    dmi = root / "sys/class/dmi/id"
    shown = f"{read_text(dmi / 'sys_vendor') or ''} {read_text(dmi / 'product_name') or ''}"
    named = next((title for word, title in HYPERVISORS.items() if word in shown), None)
    kind = read_text(root / "sys/hypervisor/type")
    if kind:
        return kind
    if named == "Hyper-V" and not is_guest:
        return None  # Microsoft also makes real machines
    return named or ("KVM" if _has_clock(root, "kvm-clock") else "unnamed" if is_guest else None)


def _has_clock(root: Path, name: str) -> bool:
    clocks = root / "sys/devices/system/clocksource/clocksource0/available_clocksource"
    return name in (read_text(clocks) or "").split()


def _container(root: Path) -> str | None:
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    manager = read_text(root / "run/systemd/container")
    if manager:
        return manager
    groups = read_text(root / "proc/1/cgroup") or ""
    match = re.search(r"kubepods|docker|lxc|containerd", groups)
    return match[0] if match else None


def _unknown(cpu: Cpu, kernel: Kernel, *, has_git: bool) -> dict[str, str]:
    """Say why fields are None that a reader would miss."""
    where = "a virtual machine" if kernel.hypervisor else "this kernel"
    reasons = {}
    if cpu.governor is None:
        reasons["cpu.governor"] = f"{where} shows no cpufreq files"
    if cpu.frequency_now_MHz is None:
        reasons["cpu.frequency_now_MHz"] = f"{where} shows no cpufreq files"
    if cpu.turbo is None:
        reasons["cpu.turbo"] = f"{where} shows neither intel_pstate nor cpufreq/boost"
    if cpu.last_level_cache_bytes is None:
        reasons["cpu.last_level_cache_bytes"] = f"{where} shows no cache sizes"
    if not has_git:
        reasons["software.git_commit"] = "the package is not tracked in a git checkout"
    return reasons
