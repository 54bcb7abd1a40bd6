"""Quantized models that were made before, kept by their recipe, so that none is made twice.

    CACHE/quantized/RECIPE/  tensors.safetensors  folded.safetensors  steps.json

A recipe is the sha256 of what decides the result: the reference, the chain, the calibration set,
this package's code and torch's version. What is read must have the hash that its last step tells;
anything else is made again. rtn is not kept: it takes seconds.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from edgebench.codec import canonical_json, sha256_bytes
from edgebench.errors import AssetError
from edgebench.record import TransformStep
from edgebench.transform import WITHOUT_DATA, TransformChain
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.quantized import (
    BIAS,
    SCALE,
    SUFFIX,
    Folded,
    Linears,
    QuantizedModel,
    folded_bytes,
    model_sha256,
    tensors_bytes,
)
from edgebench_kernels import formats, quantize
from edgebench_kernels.formats import Int4Tensor
from edgebench_workloads.cache import build_once, cache_root
from edgebench_workloads.errors import WorkloadAssetError

Kept = TypeVar("Kept")

FOLDER = "quantized"
TENSORS, FOLDED, STEPS = "tensors.safetensors", "folded.safetensors", "steps.json"


def made_once(
    directory: Path,
    begun: Path,
    read: Callable[[Path], Kept | None],
    make: Callable[[Path], None],
    what: str,
) -> Kept:
    """What `read` finds in a folder of the cache, which `make` fills where it is not there whole.

    begun holds what an interrupted `make` goes on from. Raises AssetError where the cache has no
    room, and what `make` does; `what` names the thing in the error's words.
    """
    found = read(directory)
    if found is None:
        try:
            shutil.rmtree(directory, ignore_errors=True)
            build_once(directory, make)
        except WorkloadAssetError as error:
            raise AssetError(str(error)) from error
        shutil.rmtree(begun, ignore_errors=True)
        found = read(directory)
    if found is None:
        raise AssetError(f"{what} in {directory}; remove the folder")
    return found


def quantized_once(
    chain: TransformChain,
    reference: Linears,
    calibration: CalibrationSet,
    make: Callable[[], QuantizedModel],
) -> QuantizedModel:
    """The model that `make` makes of these three, taken from the cache where it is there whole."""
    if WITHOUT_DATA.issuperset(chain.names):
        return make()
    directory = cache_root() / FOLDER / recipe_sha256(chain, reference, calibration)
    found = read_kept(directory)
    if found is not None:
        return found
    made: list[QuantizedModel] = []

    def build(folder: Path) -> None:
        made.append(make())
        write_kept(folder, made[0])

    try:
        shutil.rmtree(directory, ignore_errors=True)
        build_once(directory, build)
    except WorkloadAssetError:  # no room for it, which is no reason to stop
        pass
    if not made:  # another process made it meanwhile
        found = read_kept(directory)
    return made[0] if made else found or make()


def recipe_sha256(chain: TransformChain, reference: Linears, calibration: CalibrationSet) -> str:
    """Hash what decides a quantized model."""
    recipe = {
        "reference": reference.sha256,
        "linears": list(reference.names),
        "chain": str(chain),
        "calibration": calibration.sha256,
        "code": code_sha256(),
        "torch": version("torch"),
    }
    return sha256_bytes(canonical_json(recipe))


def write_kept(folder: Path, model: QuantizedModel) -> None:
    """Write a model into a folder."""
    (folder / TENSORS).write_bytes(tensors_bytes(model.tensors))
    (folder / FOLDED).write_bytes(folded_bytes(model.folded))
    steps = [step.model_dump(mode="json") for step in model.steps]
    (folder / STEPS).write_bytes(canonical_json(steps))


def read_kept(folder: Path) -> QuantizedModel | None:
    """Read a model; None where it is not there, or not what its last step says."""
    try:
        steps = tuple(
            TransformStep.model_validate(step) for step in json.loads((folder / STEPS).read_bytes())
        )
        model = QuantizedModel(
            tensors=_tensors(folder / TENSORS), steps=steps, folded=_folded(folder / FOLDED)
        )
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
    is_whole = bool(steps) and steps[-1].after_sha256 == model_sha256(model.tensors, model.folded)
    return model if is_whole else None


def _tensors(path: Path) -> dict[str, Int4Tensor]:
    arrays = load_file(path)
    names = [key.removesuffix(".qweight") for key in arrays if key.endswith(".qweight")]
    return {
        name: Int4Tensor(
            qweight=arrays[f"{name}.qweight"],
            scale=arrays[f"{name}.scale"],
            zero=arrays[f"{name}.zero"],
            group=2 * arrays[f"{name}.qweight"].shape[1] // arrays[f"{name}.scale"].shape[1],
        )
        for name in names
    }


def _folded(path: Path) -> Folded:
    arrays: dict[str, np.ndarray] = load_file(path)
    parts = {
        suffix: {
            name.removesuffix(suffix): array
            for name, array in arrays.items()
            if name.endswith(suffix)
        }
        for suffix in (SUFFIX, BIAS, SCALE)
    }
    return Folded(norms=parts[SUFFIX], biases=parts[BIAS], scales=parts[SCALE])


def code_sha256() -> str:
    """Hash the code that quantizes: this package, and the arithmetic that it shares."""
    own = sorted(Path(__file__).parent.glob("*.py"))
    shared = (Path(str(module.__file__)) for module in (formats, quantize))
    digest = hashlib.sha256()
    for file in (*own, *shared):
        digest.update(file.read_bytes())
    return digest.hexdigest()
