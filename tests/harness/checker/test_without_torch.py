"""A submission is retraced where torch cannot be imported, as `bench check` must be able to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from edgebench.transform.quantized import folded_bytes, tensors_bytes
from tests.harness.checker.tiny_llama import TinyWorld
from tests.house.test_lean_import import BLOCK_TORCH

pytestmark = pytest.mark.torch

RETRACE = """
import json, sys
from pathlib import Path
from safetensors.numpy import load_file
from edgebench.checker.known import known_model
from edgebench.checker.recipe import read_recipe
from edgebench.checker.retrace import Submission, retrace
from edgebench.checker.weights import faults_of
from edgebench.record import TransformStep
from edgebench_kernels.formats import Int4Tensor

folder = Path(sys.argv[1])
parts = load_file(folder / "int4.safetensors")

def tensor(name):
    qweight, scale, zero = (parts[f"{name}.{part}"] for part in ("qweight", "scale", "zero"))
    group = 2 * qweight.shape[1] // scale.shape[1]
    return Int4Tensor(qweight=qweight, scale=scale, zero=zero, group=group)

told = json.loads((folder / "told.json").read_text())
steps = [TransformStep.model_validate(step) for step in told["steps"]]
folded = load_file(folder / "folded.safetensors")
submission = Submission(recipe=read_recipe(steps), tensor=tensor, folded=folded)
found = list(retrace(known_model(folder, told["sequences"]), submission, lambda *_: None))
faults = sorted({fault.rule for one in found for fault in faults_of(one)})
print(json.dumps({"judged": len(found), "faults": faults, "torch": "torch" in sys.modules}))
"""


@pytest.mark.parametrize(("first", "faults"), [(0, []), (12, ["W-09", "W-11", "W-12"])])
def test_retracing_needs_no_torch(
    tmp_path: Path, house_environment: dict[str, str], first: int, faults: list[str]
) -> None:
    """The honest submission, and one calibrated on another set: same verdicts as with torch."""
    world = TinyWorld.write(tmp_path)
    model = world.quantized("awq:group=32,samples=12+gptq", first=first)
    (tmp_path / "int4.safetensors").write_bytes(tensors_bytes(model.tensors))
    (tmp_path / "folded.safetensors").write_bytes(folded_bytes(model.folded))
    steps = [step.model_dump(mode="json") for step in model.steps]
    (tmp_path / "told.json").write_text(json.dumps({"steps": steps, "sequences": world.sequences}))
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_TORCH + RETRACE, str(tmp_path)],
        capture_output=True,
        text=True,
        env=house_environment,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == {"judged": 15 + 9, "faults": faults, "torch": False}
