"""`bench import` and `bench export checkpoint`: a model in another 4-bit format, bit for bit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgebench.codec import storage_error
from edgebench.errors import AssetError, SpecError
from edgebench.prepare import CONFIG_FILE, harness_error
from edgebench.progress import Progress
from edgebench.transform import apply_transform, parse_transform
from edgebench.transform.loaded import file_hashes, linears_of
from edgebench_kernels.formats import choose_group
from edgebench_workloads.errors import WorkloadError
from edgebench_workloads.llm.source import find_model

if TYPE_CHECKING:
    from edgebench_kernels.checkpoints.directory import Int4Checkpoint

HEAD = "lm_head"


def import_command(source: str, out: Path, progress: Progress) -> str:
    """Read a 4-bit checkpoint of another tool into canonical tensors; see `convert`."""
    return convert(source, "canonical", out, must_be_quantized=True, progress=progress)


def convert(
    source: str,
    to: str,
    out: Path,
    *,
    transform: str | None = None,
    must_be_quantized: bool = False,
    progress: Progress,
) -> str:
    """Write `source` in the format `to`, and say what was written.

    A source that is not quantized is, by the transform; its lm_head stays as it is, because not
    every loader takes a quantized one. Raises SpecError for a layout or a choice that is not
    known, AssetError for a broken source, StorageError.
    """
    from edgebench_kernels.checkpoints import find_format
    from edgebench_kernels.checkpoints.directory import copy_beside, read_int4, write_int4
    from edgebench_kernels.checkpoints.files import read_json
    from edgebench_kernels.checkpoints.layout import UnsupportedLayout

    try:
        layout = find_format(to)
        directory = find_model(source)
        is_quantized = "quantization_config" in read_json(directory / CONFIG_FILE)
        _check_choice(source, transform, is_quantized, must_be_quantized)
        with progress.stage(f"reading {source}"):
            if is_quantized:
                came, checkpoint = read_int4(directory)
                what = came.name
            else:
                what, checkpoint = _quantized(directory, transform, progress)
        with progress.stage(f"writing {to}"):
            write_int4(checkpoint, layout, out)
            copy_beside(directory, out)
    except WorkloadError as error:
        raise harness_error(error) from error
    except UnsupportedLayout as error:
        raise SpecError(str(error)) from error
    except ValueError as error:
        raise AssetError(str(error)) from error
    except FileExistsError as error:
        raise SpecError(str(error)) from error
    except OSError as error:
        raise storage_error(out, error) from error
    count = len(checkpoint.quantized)
    return f"{to}: {out}, {count} linears from {what}"


def _check_choice(
    source: str, transform: str | None, is_quantized: bool, must_be_quantized: bool
) -> None:
    if is_quantized and transform is not None:
        raise SpecError(
            f"[export] {source} is quantized already, so --transform has nothing to do; omit it"
        )
    if must_be_quantized and not is_quantized:
        raise SpecError(
            f"[import] {source} is not quantized (its config.json has no quantization_config); "
            "'bench export checkpoint' quantizes one"
        )


def _quantized(
    directory: Path, transform: str | None, progress: Progress
) -> tuple[str, Int4Checkpoint]:
    """By the transform, or symmetric in the largest group that divides every K: any format's."""
    from edgebench_kernels.checkpoints.directory import Int4Checkpoint
    from edgebench_kernels.checkpoints.files import read_json
    from edgebench_kernels.engine import load_reference

    weights = load_reference(directory)
    linears = linears_of(weights, file_hashes(directory))
    linears = replace(linears, names=tuple(name for name in linears.names if name != HEAD))
    if transform is None:
        common = math.gcd(*(linears.weight(name).shape[1] for name in linears.names))
        transform = f"rtn:group={choose_group(common)},symmetric=true"
    spec = parse_transform(transform)
    with progress.stage(f"{directory.name}: {spec}") as update:
        quantized = apply_transform(spec, linears, update).tensors
    rest = {
        name: tensor
        for name, tensor in weights.tensors.items()
        if name.removesuffix(".weight") not in quantized
    }
    config = read_json(directory / CONFIG_FILE)
    return str(spec), Int4Checkpoint(config=config, quantized=quantized, tensors=rest)
