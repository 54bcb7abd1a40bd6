"""GPU kernels compiled as host C++ and run by the emulator of `tests/native/cuda/`.

A `Variant` is one kernel file with one set of macros (and, for planted bugs, patches of its text);
`Emulation` compiles many variants into one program, and `run` launches them on numpy arrays.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.cuda import geometry
from edgebench_kernels.cuda.source import expand

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "kernels" / "csrc" / "cuda"
EMULATOR = ROOT / "tests" / "native" / "cuda"
FLAGS = ("-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "print_stacktrace=0:halt_on_error=1",
}
_GUARD = re.compile(r"^#ifndef (\w+_H_|\w+_CUH_)$", re.MULTILINE)

Patch = tuple[str, str, str]  # file name, text that must stand there exactly once, its replacement


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One kernel of one file, compiled with `macros`; `patches` plant bugs in its text."""

    file: str
    kernel: str
    macros: tuple[tuple[str, int], ...] = ()
    patches: tuple[Patch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """An order of events that hardware may choose; see `emulator.h`."""

    is_early: bool = False
    is_greedy: bool = False
    resident: int = 1
    seed: int = 1


SCHEDULES = (
    Schedule(is_early=False, is_greedy=False, resident=2, seed=1),
    Schedule(is_early=False, is_greedy=True, seed=2),
    Schedule(is_early=True, is_greedy=False, resident=3, seed=3),
    Schedule(is_early=True, is_greedy=True, resident=2, seed=4),
)


@dataclass(frozen=True, slots=True)
class SameAs:
    """An argument that is the same buffer as the argument before at `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class Late:
    """An array that the kernel before still writes: NaN until a thread has waited for the grid."""

    array: NDArray


@dataclass(frozen=True, slots=True)
class Tiled:
    """A matrix of fp16 of that shape that a kernel copies by tiles of 64 columns: a tensor map."""

    buffer: NDArray | Late
    shape: tuple[int, int]
    box_rows: int


Argument = NDArray | np.generic | SameAs | Late | Tiled | None


def content_of(argument: Argument) -> NDArray | np.generic | SameAs | None:
    """What an argument is without when it is written, or how it is read."""
    buffer = argument.buffer if isinstance(argument, Tiled) else argument
    return buffer.array if isinstance(buffer, Late) else buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A launch of a variant, with the arguments of the kernel in order.

    An array is a buffer of exactly its size, a numpy scalar goes by value, None is a null pointer.
    cluster: blocks along z.
    """

    variant: Variant
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    arguments: Sequence[Argument]
    schedule: Schedule = field(default=SCHEDULES[0])
    cluster: int = 1


def variant_of(plan: geometry.Launch, patches: tuple[Patch, ...] = ()) -> Variant:
    """What a planned launch needs compiled."""
    return Variant(file=plan.file, kernel=plan.kernel, macros=plan.macros, patches=patches)


def launch_of(
    plan: geometry.Launch,
    arguments: Sequence[Argument],
    schedule: Schedule = SCHEDULES[0],
    patches: tuple[Patch, ...] = (),
) -> Launch:
    """A launch as it was planned."""
    return Launch(
        variant=variant_of(plan, patches),
        grid=plan.grid,
        threads=plan.threads,
        shared_bytes=plan.shared_bytes,
        cluster=plan.cluster,
        arguments=arguments,
        schedule=schedule,
    )


class EmulationError(Exception):
    """The emulated program ended early; the text is what it said."""


class Emulation:
    """A compiled program of variants."""

    def __init__(
        self, folder: Path, variants: Sequence[Variant], flags: Sequence[str] = SANITIZERS
    ) -> None:
        self.folder = folder
        self.variants = list(dict.fromkeys(variants))
        source = folder / "emulated.cpp"
        source.write_text(program(self.variants), encoding="utf-8")
        self.program = folder / "emulated"
        command = ["g++", *FLAGS, *flags, "-DEB_EMULATE", f"-I{EMULATOR}", source]
        done = subprocess.run(
            [*command, "-o", self.program], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EmulationError(done.stderr)

    def run(self, launches: Sequence[Launch], timeout_s: float = 300) -> list[list[NDArray]]:
        """The buffers of each launch after it ran; raises EmulationError with what it said."""
        request, answer = self.folder / "launches", self.folder / "results"
        request.write_bytes(self._encode(launches))
        done = subprocess.run(
            [self.program, request, answer],
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise EmulationError(f"exit code {done.returncode}: {done.stderr}")
        return _decode(launches, answer.read_bytes())

    def _encode(self, launches: Sequence[Launch]) -> bytes:
        parts = [struct.pack("<Q", len(launches))]
        for launch in launches:
            schedule = launch.schedule
            head = (
                self.variants.index(launch.variant),
                *launch.grid,
                launch.cluster,
                launch.threads,
                launch.shared_bytes,
                schedule.is_early,
                schedule.is_greedy,
                schedule.resident,
                schedule.seed,
                len(launch.arguments),
            )
            parts.append(struct.pack("<12Q", *head))
            parts.extend(_encode_argument(argument) for argument in launch.arguments)
        return b"".join(parts)


def program(variants: Sequence[Variant]) -> str:
    """The C++ text of a program: each variant's expanded text in a namespace of its own."""
    parts = ['#include "emulated_prim.h"', '#include "emulate_main.h"']
    for index, variant in enumerate(variants):
        text = expand(SOURCES / variant.file, _patched(variant))
        guards = sorted(set(_GUARD.findall(text)))
        parts += [f"#define {name} {value}" for name, value in variant.macros]
        parts += [f"namespace v{index} {{", text, f"}}  // namespace v{index}"]
        parts += [f"#undef {name}" for name in (*dict(variant.macros), *guards)]
    rows = ", ".join(f"emulation::door(v{i}::{v.kernel})" for i, v in enumerate(variants))
    parts.append(
        "int main(int count, char** names) {\n"
        f"  return emulation::run_file(count, names, {{{rows}}});\n}}"
    )
    return "\n".join(parts) + "\n"


def _patched(variant: Variant) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, old, new in variant.patches:
        text = texts.get(name) or _find(variant, name).read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise EmulationError(f"{name} must hold {old!r} once, found {text.count(old)} times")
        texts[name] = text.replace(old, new)
    return texts


def _find(variant: Variant, name: str) -> Path:
    folders = ((SOURCES / variant.file).parent, SOURCES, SOURCES.parent)
    return next(folder / name for folder in folders if (folder / name).is_file())


def _encode_argument(argument: Argument) -> bytes:
    if argument is None:
        return struct.pack("<2Q", 2, 0)
    if isinstance(argument, SameAs):
        return struct.pack("<2Q", 3, argument.index)
    if isinstance(argument, Tiled):
        sizes = struct.pack("<4Q", 5, *argument.shape, argument.box_rows)
        return sizes + _encode_argument(argument.buffer)
    if isinstance(argument, Late):
        data = argument.array.tobytes()
        return struct.pack("<2Q", 4, len(data)) + data
    data = argument.tobytes()
    if isinstance(argument, np.ndarray):
        return struct.pack("<2Q", 1, len(data)) + data
    return struct.pack("<2Q", 0, len(data)) + data.ljust(8, b"\0")


def _decode(launches: Sequence[Launch], data: bytes) -> list[list[NDArray]]:
    results, at = [], 0
    for launch in launches:
        arrays = []
        for argument in launch.arguments:
            array = content_of(argument)
            if isinstance(array, np.ndarray):
                flat = np.frombuffer(data, array.dtype, array.size, at)
                arrays.append(flat.reshape(array.shape))
                at += array.nbytes
        results.append(arrays)
    return results
