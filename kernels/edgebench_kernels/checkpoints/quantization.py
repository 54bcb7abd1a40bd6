"""What a checkpoint's directory says of its own quantization: config.json alone may say it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgebench_kernels.checkpoints.files import CONFIG, read_json
from edgebench_kernels.checkpoints.layout import UnsupportedLayout

KEY = "quantization_config"
BESIDE = "quantize_config.json"  # AutoGPTQ up to 0.4 wrote its settings there alone


def quantization_of(directory: Path) -> Mapping[str, Any] | None:
    """The `quantization_config` of a directory's config.json; None where it is not quantized.

    Raises UnsupportedLayout for AutoGPTQ's form on disk before config.json held it, ValueError
    for one that is no JSON object.
    """
    told = read_json(directory / CONFIG).get(KEY)
    if told is None:
        _refuse_settings_beside(directory)
        return None
    if not isinstance(told, Mapping):
        raise ValueError(
            f"[checkpoint] expected {KEY} in {directory / CONFIG} to be a JSON object with a "
            f"quant_method, got {told!r}; take the config.json that the model was saved with"
        )
    return told


def _refuse_settings_beside(directory: Path) -> None:
    if not (directory / BESIDE).is_file():
        return
    weights = sorted(path.name for path in directory.glob("*.safetensors"))
    seen = f" and {', '.join(weights[:3])}" if weights else ""
    raise UnsupportedLayout(
        f"[checkpoint] expected {KEY} in config.json and weights in model.safetensors, got "
        f"AutoGPTQ's older form in {directory} ({BESIDE}{seen}): put what {BESIDE} holds into "
        f'config.json as "{KEY}", with "quant_method": "gptq", and name the weights '
        "model.safetensors"
    )
