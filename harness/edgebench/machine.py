"""What this machine is, as its own files under one root say it.

Every reader takes `root`, so that a tree of plain files stands for a machine in the tests. A file
that is absent or unreadable gives None or an empty tuple; nothing is guessed from the Python build.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgebench.errors import SpecError

ROOT = Path("/")
ROOT_VARIABLE = "EDGEBENCH_ROOT"

# Arm main ID registers carry no names; these do. Source: util-linux, sys-utils/lscpu-arm.c.
ARM_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd83"): "Neoverse-V3AE",
    ("0x41", "0xd84"): "Neoverse-V3",
}

# The CPU flags that our kernels, or torch's, choose their path by.
RELEVANT_FLAGS = frozenset(
    "ssse3 sse4_1 avx f16c fma avx2 avx_vnni avx_vnni_int8 avx512f avx512bw avx512dq avx512vl"
    " avx512vbmi avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 neon asimd fphp"
    " asimdhp asimddp i8mm bf16 sve sve2 svei8mm svebf16 sme".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts by which a requested device is accepted or refused."""

    board: str | None
    """Device-tree model, e.g. 'NVIDIA Jetson AGX Orin Developer Kit'."""
    compatible: tuple[str, ...]
    """Device-tree compatible strings, which hold the module's part number."""
    tegra_release: str | None
    nvidia_driver: str | None
    nvidia_gpus: tuple[str, ...]
    cpu_model: str
    architecture: str | None = None
    """'x86-64' or 'aarch64', by the words that the kernel uses for the CPU; None: another."""

    @property
    def is_jetson(self) -> bool:
        """A Tegra of Jetson's line, by device tree or by NVIDIA's release file."""
        named = self.board is not None and ("jetson" in self.board.lower() or self._has_module)
        return named or self._has_module or self.tegra_release is not None

    @property
    def _has_module(self) -> bool:
        return any(re.search(r"nvidia,(p\d{4}|tegra)", entry) for entry in self.compatible)

    def describe(self) -> str:
        """Say in one line what was found, for the error of a refused device."""
        gpus = ", ".join(self.nvidia_gpus)
        return "; ".join(
            (
                f"board {self.board!r}" if self.board else "no device-tree model",
                self.tegra_release or "no /etc/nv_tegra_release",
                f"NVIDIA driver {self.nvidia_driver}" if self.nvidia_driver else "no NVIDIA driver",
                f"GPU {gpus}" if gpus else "no NVIDIA GPU",
                f"CPU: {self.cpu_model}",
            )
        )


def find_root() -> Path:
    """Return the root whose files say what the machine is: `/`, or the tree of a simulation.

    EDGEBENCH_ROOT names a folder that stands for another machine's root; what is measured then is
    marked as simulated. Raises SpecError where it names no folder.
    """
    named = os.environ.get(ROOT_VARIABLE)
    if not named:
        return ROOT
    root = Path(named).resolve()
    if not root.is_dir():
        raise SpecError(
            f"[{ROOT_VARIABLE}] expected a folder that stands for a machine's root, got {named!r}; "
            "unset it to measure this machine"
        )
    return root


def is_simulated(root: Path) -> bool:
    """Whether a root stands for a machine that is not this one."""
    return root != ROOT


def read_text(path: Path) -> str | None:
    """Return a small file's text without surrounding whitespace and NULs, None if unreadable."""
    try:
        return path.read_bytes()[:65536].decode("utf-8", "replace").strip("\0 \t\r\n")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """Return the integer in a one-line file, None if absent, unreadable or not a number."""
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def inspect(root: Path = ROOT) -> Machine:
    """Read the facts by which devices are told apart."""
    tree = root / "proc/device-tree"
    release = read_text(root / "etc/nv_tegra_release")
    return Machine(
        board=read_text(tree / "model") or None,
        compatible=tuple(filter(None, (read_text(tree / "compatible") or "").split("\0"))),
        tegra_release=_short_release(release) if release else None,
        nvidia_driver=_nvidia_driver(root),
        nvidia_gpus=_nvidia_gpus(root),
        cpu_model=cpu_model(root),
        architecture=architecture(root),
    )


def _short_release(text: str) -> str:
    match = re.search(r"R(\d+)[^,]*,\s*REVISION:\s*([\d.]+)", text)
    return f"L4T R{match[1]}.{match[2]}" if match else "L4T of unknown release"


def _nvidia_driver(root: Path) -> str | None:
    text = read_text(root / "proc/driver/nvidia/version")
    if text is None:
        return None
    match = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)", text)
    return match[1] if match else "of unknown version"


def _nvidia_gpus(root: Path) -> tuple[str, ...]:
    """Name the discrete GPUs; a Jetson's is part of its board and need not be listed here."""
    names = []
    for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"^Model:\s*(.+?)\s*$", read_text(information) or "", re.MULTILINE)
        names.append(match[1] if match else "NVIDIA GPU of unknown model")
    if not names:
        nodes = sorted((root / "dev").glob("nvidia[0-9]*"))
        names = ["NVIDIA GPU of unknown model"] * len(nodes)
    return tuple(names)


def cpu_info(root: Path = ROOT) -> dict[str, str]:
    """Return the first processor's fields of /proc/cpuinfo, with lower-case keys."""
    fields: dict[str, str] = {}
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip().lower(), value.strip())
    return fields


def architecture(root: Path = ROOT) -> str | None:
    """Tell the CPU's 64-bit instruction set from its flags ('lm') or features ('asimd')."""
    fields = cpu_info(root)
    if "lm" in fields.get("flags", "").split():
        return "x86-64"
    return "aarch64" if "asimd" in fields.get("features", "").split() else None


def cpu_model(root: Path = ROOT) -> str:
    """Name the CPU as the kernel does; on Arm by the core's part number, on macOS by sysctl."""
    if root == ROOT and sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or "unnamed CPU"
    fields = cpu_info(root)
    if fields.get("model name"):
        return fields["model name"]
    part = (fields.get("cpu implementer", ""), fields.get("cpu part", ""))
    if part in ARM_CORES:
        return f"Arm {ARM_CORES[part]}"
    return f"Arm core {part[0]}/{part[1]}" if all(part) else "unnamed CPU"


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def cpu_flags(root: Path = ROOT) -> tuple[str, ...]:
    """Return the CPU flags that matter to the kernels, sorted."""
    fields = cpu_info(root)
    present = (fields.get("flags") or fields.get("features") or "").split()
    return tuple(sorted(RELEVANT_FLAGS.intersection(present)))


def best_isa(flags: tuple[str, ...]) -> str:
    """Name the widest instruction set that the kernels could use, in their vocabulary."""
    have = frozenset(flags)
    vnni = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni"}
    ladder = (
        ("amx_int8", {*vnni, "amx_tile", "amx_int8"}),
        ("avx512_vnni", vnni),
        ("avx512", {"avx512f", "avx512bw", "avx512vl"}),
        ("avx2_vnni", {"avx2", "fma", "avx_vnni"}),
        ("avx2", {"avx2", "fma"}),
        ("neon_i8mm", {"asimd", "i8mm"}),
        ("neon_dotprod", {"asimd", "asimddp"}),
        ("neon", {"asimd"}),
    )
    return next((name for name, needed in ladder if needed <= have), "scalar")


def last_level_cache_bytes(root: Path = ROOT) -> int | None:
    """Sum the distinct caches of the highest level: what the machine's cores hold together."""
    distinct: dict[tuple[int, str], int] = {}
    for index in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        level = read_int(index / "level")
        size = _cache_bytes(read_text(index / "size"))
        if level is None or size is None or read_text(index / "type") == "Instruction":
            continue
        distinct[level, read_text(index / "shared_cpu_list") or index.parts[-3]] = size
    if not distinct:
        return None
    last = max(level for level, _ in distinct)
    return sum(size for (level, _), size in distinct.items() if level == last)


def _cache_bytes(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d+)([KMG]?)", text or "")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]] if match else None
