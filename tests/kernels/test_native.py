"""The library as a whole: forced ISA, threads, several callers, fork, missing library."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from edgebench_kernels import native
from edgebench_kernels.packing import PackedInt4, linear

needs_library = pytest.mark.native


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter that finds the same library."""
    environment = {**os.environ, **variables}
    paths = [*sys.path, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
    )


@needs_library
def test_environment_forces_each_supported_isa() -> None:
    code = "from edgebench_kernels import native; print(native.isa())"
    for isa in native.supported_isas():
        done = run_python(code, EDGEBENCH_ISA=isa)
        assert (done.stdout.strip(), done.returncode) == (isa, 0), done.stderr


@needs_library
def test_environment_with_an_unknown_isa_says_what_there_is() -> None:
    code = "from edgebench_kernels import native; native.isa()"
    done = run_python(code, EDGEBENCH_ISA="sse9")
    assert "[EDGEBENCH_ISA] unknown instruction set 'sse9'; this library has scalar" in done.stderr


@needs_library
@pytest.mark.usefixtures("restored_native")
def test_forcing_an_unknown_isa_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown instruction set 'neon9'.*supports scalar"):
        native.force_isa("neon9")


def test_forcing_an_isa_that_the_machine_lacks_is_refused() -> None:
    class OldMachine:
        names = (b"scalar", b"avx2", None)

        def eb_isa_name(self, index: int) -> bytes | None:
            return self.names[index]

        def eb_isa_supported(self, index: int) -> int:
            return int(index == 0)

    with pytest.raises(ValueError, match="this machine lacks instruction set 'avx2'; it supports"):
        native._force_isa(OldMachine(), "avx2", where="native")  # type: ignore[arg-type]


@needs_library
@pytest.mark.parametrize("threads", [0, -1, 257])
def test_thread_counts_out_of_range_are_refused(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads must be 1..256, got {threads}"):
        native.set_threads(threads)


@needs_library
def test_threads_default_to_the_cpus_of_the_process() -> None:
    code = "from edgebench_kernels import native; print(native.threads())"
    assert run_python(code).stdout.strip() == str(native.default_threads())


@needs_library
@pytest.mark.usefixtures("restored_native")
def test_several_python_threads_may_call_at_once(make_tensor) -> None:
    native.set_threads(3)
    packed = PackedInt4(make_tensor(1000, 1024, 128))
    inputs = [np.random.default_rng(i).standard_normal((i + 1, 1024), np.float32) for i in range(4)]
    expected = [linear(packed, x) for x in inputs]
    wrong: list[int] = []

    def call(which: int) -> None:
        outputs = [linear(packed, inputs[which]) for _ in range(50)]
        wrong.extend(which for y in outputs if not np.array_equal(y, expected[which]))

    callers = [threading.Thread(target=call, args=(which,)) for which in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@needs_library
def test_a_forked_child_computes_with_threads_of_its_own() -> None:
    done = run_python(
        """
import os, warnings
import numpy as np
from edgebench_kernels import native
from edgebench_kernels.packing import PackedInt4, linear
from edgebench_kernels.quantize import quantize_rtn
warnings.simplefilter("ignore")  # later Pythons warn about fork with threads: that is the test
rng = np.random.default_rng(0)
native.set_threads(3)
packed = PackedInt4(quantize_rtn(rng.standard_normal((1000, 1024), dtype=np.float32), 128))
x = rng.standard_normal((5, 1024), dtype=np.float32)
y = linear(packed, x)
for _ in range(5):
    child = os.fork()
    if child == 0:
        ok = native.threads() == 3 and np.array_equal(linear(packed, x), y)
        os._exit(0 if ok else 1)
    assert np.array_equal(linear(packed, x), y)  # the parent's pool goes on
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("ok")
"""
    )
    assert (done.stdout.strip(), done.returncode) == ("ok", 0), done.stderr


@needs_library
def test_process_ends_while_another_thread_computes() -> None:
    done = run_python(
        """
import threading
import numpy as np
from edgebench_kernels.packing import PackedInt4, linear
from edgebench_kernels.quantize import quantize_rtn
packed = PackedInt4(quantize_rtn(np.ones((512, 1024), dtype=np.float32), 128))
x = np.ones((64, 1024), dtype=np.float32)
started = threading.Event()
def forever():
    while True:
        linear(packed, x)
        started.set()
threading.Thread(target=forever, daemon=True).start()
started.wait()
print("ok")
"""
    )
    assert (done.stdout.strip(), done.returncode) == ("ok", 0), done.stderr


def test_a_missing_library_names_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(native.LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr("edgebench_kernels.__path__", [str(tmp_path)])
    with pytest.raises(native.NativeLibraryMissing, match=r"build it with: pip install -e \."):
        native.library_path()


def test_an_override_that_is_no_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.LIBRARY_VARIABLE, "/nowhere/lib.so")
    with pytest.raises(native.NativeLibraryMissing, match=r"=/nowhere/lib\.so is not a file"):
        native.library_path()


def test_a_file_that_is_no_library_is_named(tmp_path: Path) -> None:
    fake = tmp_path / "lib.so"
    fake.write_bytes(b"not a library")
    code = "from edgebench_kernels import native; native.isa()"
    done = run_python(code, EDGEBENCH_KERNELS_LIBRARY=str(fake))
    assert f"[native] {fake} cannot be used" in done.stderr


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (native.SHAPE, ValueError, "a size is out of range; M=0"),
        (native.GROUP, ValueError, "group must be 32, 64, 128 or K"),
        (native.MEMORY, MemoryError, "out of memory"),
        (native.THREADS, RuntimeError, "a thread could not be started"),
        (native.UNAVAILABLE, native.Unavailable, "no such instruction"),
        (99, ValueError, "unknown error 99"),
    ],
)
def test_door_errors_become_sentences(error: int, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        native.check(error, "w4a16", "M=0")


@needs_library
def test_doors_refuse_null_and_bad_sizes_instead_of_crashing(make_tensor) -> None:
    library, packed = native.library(), PackedInt4(make_tensor(3, 64, 32))
    x = np.zeros((1, 64), dtype=np.float32)
    at = x.ctypes.data
    assert library.eb_w4a16_linear(None, 1, at, at) == native.NULL
    assert library.eb_w4a8_linear(packed.handle, 1, None, at) == native.NULL
    for m in (0, -1, 1 << 31):
        assert library.eb_w4a16_linear(packed.handle, m, at, at) == native.SHAPE
    assert library.eb_w4_pack(at, at, at, 1, 63, 63, at) == native.SHAPE
    assert library.eb_w4_pack(at, at, at, 1, 64, 48, at) == native.GROUP
    assert library.eb_force_isa(99) == native.ISA
    assert library.eb_ceiling(9, None, 1000, at, at) == native.UNAVAILABLE
