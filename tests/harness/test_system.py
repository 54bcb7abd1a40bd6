"""`system.json`: what is collected, what is said where nothing is known, and what never appears."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from edgebench import machine, provenance
from edgebench.record import Name, StrictModel
from edgebench.system import SystemDescription, describe_system, system_name

XEON = "Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz"
EPYC = "AMD EPYC 9654 96-Core Processor"


class Named(StrictModel):
    name: Name


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


def tree(root: Path, model: str = EPYC, flags: str = "fma avx2 avx512f avx512bw avx512vl") -> Path:
    """Build a bare-metal machine with four cores in two clusters."""
    processor = f"model name\t: {model}\nmicrocode\t: 0xa10\nflags\t\t: fpu {flags}\n"
    put(root, "proc/cpuinfo", "".join(f"processor\t: {i}\n{processor}" for i in range(4)))
    put(root, "sys/devices/system/cpu/online", "0-2,5")
    for core, shared in enumerate(("0-1", "0-1", "2-3", "2-3")):
        cache = f"sys/devices/system/cpu/cpu{core}/cache"
        for index, (level, kind, size, who) in enumerate(
            (
                (1, "Data", "48K", core),
                (1, "Instruction", "32K", core),
                (3, "Unified", "16M", shared),
            )
        ):
            put(root, f"{cache}/index{index}/level", str(level))
            put(root, f"{cache}/index{index}/type", kind)
            put(root, f"{cache}/index{index}/size", size)
            put(root, f"{cache}/index{index}/shared_cpu_list", str(who))
    policy = "sys/devices/system/cpu/cpu0/cpufreq"
    put(root, f"{policy}/scaling_governor", "performance")
    put(root, f"{policy}/scaling_cur_freq", "2400000")
    put(root, f"{policy}/scaling_max_freq", "3700000")
    put(root, "sys/devices/system/cpu/cpufreq/boost", "1")
    put(root, "sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,96")
    put(root, "proc/meminfo", "MemTotal:  1000 kB\nMemAvailable: 900 kB\nSwapTotal: 0 kB")
    put(root, "proc/loadavg", "0.50 0.25 0.10 1/94 6032")
    put(root, "proc/uptime", "1234.56 99.0")
    put(root, "proc/sys/kernel/osrelease", "6.1.0-test")
    put(root, "proc/sys/kernel/randomize_va_space", "2")
    put(root, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    put(root, "etc/os-release", 'NAME="X"\nPRETTY_NAME="Debian GNU/Linux 12"')
    return root


def test_a_bare_machine_is_described_in_full(tmp_path: Path) -> None:
    system = describe_system(tree(tmp_path))
    assert system.cpu.model == EPYC
    assert (system.cpu.cores_online, system.cpu.threads_per_core) == (4, 2)
    assert system.cpu.last_level_cache_bytes == 2 * 16 << 20  # two clusters, each counted once
    assert (system.cpu.governor, system.cpu.turbo) == ("performance", True)
    assert (system.cpu.frequency_now_MHz, system.cpu.frequency_max_MHz) == (2400.0, 3700.0)
    assert (system.memory.total_bytes, system.memory.huge_pages) == (1000 * 1024, "madvise")
    assert system.kernel.load_average == (0.5, 0.25, 0.1)
    assert (system.kernel.distribution, system.kernel.uptime_s) == ("Debian GNU/Linux 12", 1234)
    assert (system.kernel.hypervisor, system.kernel.container, system.kernel.aslr) == (
        None,
        None,
        2,
    )
    assert not [field for field in system.unknown if field.startswith("cpu.")]


def test_an_empty_tree_is_described_as_unknown_with_reasons(tmp_path: Path) -> None:
    system = describe_system(tmp_path)
    assert system.cpu.governor is None
    assert system.memory.total_bytes is None
    assert system.unknown["cpu.governor"] == "this kernel shows no cpufreq files"
    assert {"cpu.turbo", "cpu.last_level_cache_bytes"} <= set(system.unknown)


def test_an_instruction_cache_holds_no_weights(tmp_path: Path) -> None:
    for index, (kind, size) in enumerate((("Data", "48K"), ("Instruction", "32K"))):
        cache = f"sys/devices/system/cpu/cpu0/cache/index{index}"
        put(tmp_path, f"{cache}/level", "1")
        put(tmp_path, f"{cache}/type", kind)
        put(tmp_path, f"{cache}/size", size)
        put(tmp_path, f"{cache}/shared_cpu_list", str(index))  # so that the two stay apart
    assert machine.last_level_cache_bytes(tmp_path) == 48 << 10


def test_a_virtual_machine_is_named_as_the_reason(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "processor : 0\nmodel name : X\nflags : hypervisor avx2 fma")
    put(tmp_path, "sys/class/dmi/id/sys_vendor", "QEMU")
    system = describe_system(tmp_path)
    assert system.kernel.hypervisor == "QEMU/KVM"
    assert system.unknown["cpu.governor"] == "a virtual machine shows no cpufreq files"


@pytest.mark.parametrize(
    ("path", "text", "hypervisor"),
    [
        ("proc/sys/kernel/osrelease", "5.15.90.1-microsoft-standard-WSL2", "WSL"),
        ("sys/hypervisor/type", "xen", "xen"),
        ("sys/class/dmi/id/sys_vendor", "Amazon EC2", "Amazon EC2"),
        ("sys/devices/system/clocksource/clocksource0/available_clocksource", "kvm-clock", "KVM"),
        ("proc/cpuinfo", "flags : hypervisor", "unnamed"),
        ("sys/class/dmi/id/sys_vendor", "Microsoft Corporation", None),  # a Surface
        ("sys/class/dmi/id/sys_vendor", "Dell Inc.", None),
    ],
)
def test_hypervisors(path: str, text: str, hypervisor: str | None, tmp_path: Path) -> None:
    put(tmp_path, path, text)
    assert describe_system(tmp_path).kernel.hypervisor == hypervisor


@pytest.mark.parametrize(
    ("path", "text", "container"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        ("proc/1/cgroup", "0::/kubepods/besteffort/pod1", "kubepods"),
        ("proc/1/cgroup", "0::/init.scope", None),
    ],
)
def test_containers(path: str, text: str, container: str | None, tmp_path: Path) -> None:
    put(tmp_path, path, text)
    assert describe_system(tmp_path).kernel.container == container


@pytest.mark.parametrize(
    ("model", "flags", "name"),
    [
        (EPYC, "fma avx2 avx512f avx512bw avx512vl avx512_vnni", "AMD-EPYC-9654-4c-avx512_vnni"),
        (XEON, "fma avx2", "Intel-Xeon-Platinum-8480C-4c-avx2"),
        (
            XEON,
            "fma avx2 avx512f avx512bw avx512vl avx512_vnni amx_tile amx_int8",
            "Intel-Xeon-Platinum-8480C-4c-amx_int8",
        ),
        ("12th Gen Intel(R) Core(TM) i7-1270P", "fma avx2 avx_vnni", None),
        ("", "", "unnamed-4c-scalar"),
        ("ß<script>\N{SNOWMAN}/../x", "", None),
    ],
)
def test_the_name_is_derived_from_the_machine(
    model: str, flags: str, name: str | None, tmp_path: Path
) -> None:
    root = tree(tmp_path, model, flags)
    derived = system_name(root)
    assert Named(name=derived).name == derived
    assert system_name(root) == derived
    if name is not None:
        assert derived == name


def test_a_jetson_is_named_by_its_board(tmp_path: Path) -> None:
    put(tmp_path, "proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    put(
        tmp_path,
        "proc/cpuinfo",
        "CPU implementer : 0x41\nCPU part : 0xd42\nFeatures : asimd asimddp",
    )
    put(tmp_path, "sys/devices/system/cpu/online", "0-11")
    expected = "NVIDIA-Jetson-AGX-Orin-Developer-Kit-Arm-Cortex-A78AE-12c-neon_dotprod"
    assert system_name(tmp_path) == expected


def test_this_machine_survives_a_round_trip_and_has_a_valid_name() -> None:
    system = describe_system()
    assert SystemDescription.model_validate_json(system.model_dump_json()) == system
    assert system_name() == system.name
    assert system.cpu.cores_usable >= 1
    assert system.software.packages["edgebench"]
    with pytest.raises(pydantic.ValidationError):
        SystemDescription.model_validate_json(system.model_dump_json()[:-1] + ',"typed_by_hand":1}')


def test_nothing_names_a_person_or_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    home = str(Path.home())
    monkeypatch.setenv("EDGEBENCH_CACHE", f"{home}/cache")
    monkeypatch.setattr(sys, "argv", [f"{home}/.venv/bin/bench", "run", "--out", f"{home}/out"])
    text = describe_system().model_dump_json()
    words = set(re.findall(r"[\w.-]+", text))
    assert socket.gethostname() not in words - {"localhost", "vm"}
    assert getpass.getuser() not in words - {"root"}
    assert f"{home}/" not in text
    for path in ("/etc/machine-id", "/sys/class/dmi/id/product_uuid"):
        secret = machine.read_text(Path(path))
        assert not secret or secret not in text
    assert '"command":"bench run --out ~/out"' in text


def test_paths_are_reduced_at_their_borders_only() -> None:
    def reduce(text: str) -> str:
        return provenance.reduce_paths(text, cwd=Path("/data/me/work"), home=Path("/home/me"))

    assert reduce("--out=/data/me/work/out") == "--out=./out"
    assert reduce("/data/me/work") == "."
    assert reduce("/data/me/work2/x") == "/data/_/work2/x"
    assert reduce("/home/me/x:/home/me") == "~/x:~"
    assert reduce("/home/colleague/x") == "~/x"
    assert reduce("/Users/her/x and /opt/models") == "~/x and /opt/models"
    assert reduce("/mnt/home/colleague/x") == "/mnt/home/_/x"
    assert reduce("/scratch/me/x,/scratch/meadow") == "/scratch/_/x,/scratch/meadow"
    assert provenance.reduce_paths("/a/b", cwd=Path("/"), home=Path("/")) == "/a/b"
    inside = provenance.reduce_paths("/home/me/w/x", cwd=Path("/home/me/w"), home=Path("/home/me"))
    assert inside == "./x"


def test_the_command_can_be_pasted_again() -> None:
    given = [
        "/x/bin/bench",
        "run",
        "--transform",
        "prune:wanda=2:4 + awq",
        "--organisation",
        "it's",
    ]
    command = provenance.command_line(given)
    assert command == "bench run --transform 'prune:wanda=2:4 + awq' --organisation 'it'\"'\"'s'"
    assert provenance.command_line([]) == ""


def test_only_our_variables_are_recorded_and_no_secret() -> None:
    given = {
        "EDGEBENCH_ISA": "avx2",
        "EDGEBENCH_HUB_TOKEN": "hunter2",
        "OMP_NUM_THREADS": "2",
        "PATH": "/bin",
        "USER": "me",
    }
    assert provenance.environment(given) == {
        "EDGEBENCH_HUB_TOKEN": "(set)",
        "EDGEBENCH_ISA": "avx2",
        "OMP_NUM_THREADS": "2",
    }


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    subprocess.run(
        ("git", *identity, *arguments), cwd=folder, check=True, capture_output=True, env=environment
    )


def test_the_commit_is_that_of_the_checkout_the_code_is_tracked_in(tmp_path: Path) -> None:
    code = tmp_path / "pkg" / "code.py"
    put(tmp_path, "pkg/code.py", "1")
    assert provenance.git_state(code) is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    assert provenance.git_state(code) is None  # no commit yet
    git(tmp_path, "commit", "-qm", "one")
    state = provenance.git_state(code)
    assert state is not None
    assert re.fullmatch("[0-9a-f]{40}", state[0])
    assert state[1] is False
    put(tmp_path, "pkg/code.py", "2")
    assert provenance.git_state(code) == (state[0], True)
    put(tmp_path, "venv/installed.py", "3")
    assert provenance.git_state(tmp_path / "venv/installed.py") is None  # below, not tracked


def test_a_machine_without_git_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state() is None


def test_the_isa_is_the_widest_that_is_complete() -> None:
    assert machine.best_isa(("avx2", "avx512f")) == "scalar"  # no fma, no bw and vl
    assert machine.best_isa(("avx2", "fma")) == "avx2"
    assert machine.best_isa(("avx2", "avx_vnni", "fma")) == "avx2_vnni"
    assert machine.best_isa(("asimd", "asimddp", "i8mm")) == "neon_i8mm"
    assert machine.best_isa(()) == "scalar"


def test_describing_the_system_imports_no_torch() -> None:
    program = (
        "import sys; from edgebench.system import describe_system; describe_system(); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 0
