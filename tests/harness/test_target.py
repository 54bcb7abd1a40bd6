"""Where kernels execute, as a run sees it: the GPU's side with stand-ins, the choice of a side."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")


from edgebench import target_cuda  # noqa: E402
from edgebench.engines_cuda import CudaEngines  # noqa: E402
from edgebench.errors import DeviceUnavailable, RunFailed  # noqa: E402
from edgebench.gpus import Gpu  # noqa: E402
from edgebench.system import describe_system  # noqa: E402
from edgebench.target import open_target  # noqa: E402
from edgebench.target_cpu import CpuTarget  # noqa: E402
from edgebench.target_cuda import CudaTarget, kernel_errors  # noqa: E402
from edgebench.transform.quantized import Folded  # noqa: E402
from edgebench_kernels.ceilings import CEILINGS as CPU_CEILINGS  # noqa: E402
from edgebench_kernels.cuda import launcher as launchers  # noqa: E402
from edgebench_kernels.cuda.ceilings import CEILINGS as GPU_CEILINGS  # noqa: E402
from edgebench_kernels.cuda.errors import (  # noqa: E402
    CompileError,
    CudaMemoryError,
    CudaUnavailable,
    GpuBusy,
    LaunchError,
)
from tests.cuda import tiny_llama  # noqa: E402
from tests.cuda.emulated_launcher import Collector  # noqa: E402

pytestmark = pytest.mark.torch

NAME = "NVIDIA H200"
GB = 10**9


@dataclass
class FakeGpu:
    name: str = NAME
    busy: bool = False

    def require_sole_use(self) -> None:
        if self.busy:
            raise GpuBusy("[cuda] expected to be alone on it")


@dataclass
class FakeLauncher:
    free_bytes: int = 100 * GB
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    gpu: FakeGpu = field(default_factory=FakeGpu)

    def memory_bytes(self) -> tuple[int, int]:
        return self.free_bytes, 141 * GB


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> CudaTarget:
    properties = SimpleNamespace(L2_cache_size=60 << 20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return CudaTarget(FakeLauncher())  # type: ignore[arg-type]


def system_with(*gpus: Gpu) -> Any:
    return describe_system().model_copy(update={"gpus": list(gpus)})


def test_the_cpu_is_a_target() -> None:
    target = open_target("cpu")
    assert isinstance(target, CpuTarget)
    assert sorted(target.ceilings) == sorted(CPU_CEILINGS)
    system = describe_system()
    assert target.described(system) is system
    assert target.cache_bytes(system) == system.cpu.last_level_cache_bytes


def test_the_ceilings_of_a_gpu_are_those_that_its_kernels_measure(target: CudaTarget) -> None:
    assert sorted(target.ceilings) == sorted(GPU_CEILINGS)


def test_a_gpu_is_opened_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeLauncher()
    monkeypatch.setattr(launchers, "launcher_of", lambda device: fake)
    assert isinstance(open_target("cuda"), CudaTarget)
    fake.gpu.busy = True
    with pytest.raises(DeviceUnavailable, match="expected to be alone"):
        open_target("cuda")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (CudaUnavailable, DeviceUnavailable),
        (GpuBusy, DeviceUnavailable),
        (CompileError, RunFailed),
        (CudaMemoryError, RunFailed),
        (LaunchError, RunFailed),
    ],
)
def test_errors_of_kernels_get_an_exit_code(raised: type, expected: type) -> None:
    with pytest.raises(expected, match=r"^\[where\] what, and the fix$"), kernel_errors():
        raise raised("[where] what, and the fix")
    with pytest.raises(ZeroDivisionError), kernel_errors():
        raise ZeroDivisionError


def test_the_gpu_that_executes_comes_first_with_its_l2(target: CudaTarget) -> None:
    other, own = Gpu(name="NVIDIA L4"), Gpu(name=NAME, memory_bytes=141 * GB)
    system = target.described(system_with(other, own))
    assert system.gpus == [own.model_copy(update={"l2_cache_bytes": 60 << 20}), other]
    assert target.cache_bytes(system) == 60 << 20


def test_a_gpu_that_nobody_listed_is_added(target: CudaTarget) -> None:
    system = target.described(system_with())
    assert system.gpus == [Gpu(name=NAME, l2_cache_bytes=60 << 20)]


def test_a_model_must_fit_on_the_gpu_too(target: CudaTarget) -> None:
    memory = describe_system().memory.model_copy(update={"available_bytes": 1000 * GB})
    system = system_with().model_copy(update={"memory": memory})
    assert target.memory_shortage(16 * GB, system) is None
    said = target.memory_shortage(90 * GB, system)
    assert said is not None
    assert "of the GPU's memory" in said
    small = memory.model_copy(update={"available_bytes": 1 * GB})
    said = target.memory_shortage(16 * GB, system.model_copy(update={"memory": small}))
    assert said is not None
    assert "the GPU's" not in said, "the host holds the weights first"


def test_the_peak_is_that_of_the_gpus_memory(
    target: CudaTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 * GB)
    target.reset_peak()
    assert asked == [torch.device("cpu")]
    assert target.peak_memory_bytes() == 7 * GB


def test_engines_are_built_from_a_prepared_workload(tmp_path: Path) -> None:
    """Every call that a run makes, with kernels that are named and not launched."""
    weights = tiny_llama.weights_of()
    norms = {"model.norm": weights.tensors["model.norm.weight"].numpy()}
    prepared = tiny_llama.prepared_in(tmp_path, Folded(norms=norms))
    launcher = Collector()
    engines = CudaEngines(launcher, prepared, ("fp16", "int4"))  # type: ignore[arg-type]
    assert engines.model.operations_per_token == 2 * sum(
        w.numel() for w in weights.linears().values()
    )
    launched = set()
    for kernel in ("fp16", "int4"):
        for scenario in ("single-stream", "offline"):
            one = engines.for_scenario(kernel, scenario)  # type: ignore[arg-type]
            assert one.engine.max_length == 3 + 6
            assert one.executed_path == one.engine.describe()
            answers = one.engine.generate_greedy(prepared.prompts[: one.batch_size], 2, 63)
            assert [len(answer) for answer in answers] == [2] * min(2, one.batch_size)
            assert one.weight_bytes > 0
            launched |= {variant.kernel for variant in launcher.variants}
    assert {"w4a16_gemv", "w4a8_gemm", "decode_attention", "argmax", "advance"} <= launched


def test_engines_say_what_executes(monkeypatch: pytest.MonkeyPatch) -> None:
    warmed = []

    def engine(name: str) -> Any:
        return SimpleNamespace(
            describe=lambda: f"{name}/sm_90a (kernels)",
            warm_up=lambda batches: warmed.append((name, batches)),
        )

    engines = CudaEngines.__new__(CudaEngines)
    prompts = [[0] * 3, [0] * 2, [0] * 3]
    engines._prepared = SimpleNamespace(prompts=prompts)  # type: ignore[assignment]
    engines._fp16 = engine("fp16")
    engines._int4 = {path: engine(path) for path in ("w4a16", "w4a8")}
    monkeypatch.setattr("edgebench.engines_cpu.faster_path", lambda *_: "w4a8")
    told = [
        (one.executed_path, one.batch_size, one.arithmetic)
        for kernel in ("fp16", "int4")
        for scenario in ("single-stream", "offline")
        for one in [engines.for_scenario(kernel, scenario)]  # type: ignore[arg-type]
    ]
    assert told == [
        ("fp16/sm_90a (kernels)", 1, "fp16"),
        ("fp16/sm_90a (kernels)", 64, "fp16"),
        ("w4a16/sm_90a (kernels)", 1, "fp16"),
        ("w4a8/sm_90a (kernels)", 64, "int8"),
    ]
    named = engines.for_scenario("int4", "offline", "w4a16/of another GPU")
    assert named.executed_path == "w4a16/sm_90a (kernels)", "no race decides it"
    del warmed[-2:]
    alone, together = [[2], [3]], [[2, 3, 3]]
    assert warmed == [
        ("fp16", alone),
        ("fp16", together),
        *((path, batches) for batches in (alone, together) for path in ("w4a16", "w4a8")),
    ]


def test_a_ceiling_that_does_not_fit_is_an_error_of_the_run(
    target: CudaTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, threads: int) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(target._ceilings, "measure", refuse)
    with pytest.raises(RunFailed, match="the GPU is out of memory"), target.errors():
        target.measure_ceiling("fp16", 1)
    assert target_cuda.MEMORY_PER_WEIGHT_BYTE > 1.27, "fp16 and INT4 are both there"
