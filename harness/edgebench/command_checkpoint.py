"""`bench import` and `bench export checkpoint`: a model in another 4-bit format, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgebench.calibration_text import read_calibration
from edgebench.codec import storage_error
from edgebench.errors import AssetError, SpecError, harness_error
from edgebench.estimate import require_converting_memory, require_quantizing_memory
from edgebench.prepared_text import CONFIG_FILE
from edgebench.progress import Progress
from edgebench.spec import DEFAULT_TRANSFORM
from edgebench.system import describe_system
from edgebench.transform import (
    TransformChain,
    apply_transform,
    check_calibration,
    parse_transform,
)
from edgebench.transform.group_fit import require_fitting_groups, require_one_group
from edgebench.transform.loaded import LoadedLinears, file_hashes, linears_of
from edgebench_kernels.formats import choose_group
from edgebench_workloads.errors import WorkloadError
from edgebench_workloads.llm.source import find_model

if TYPE_CHECKING:
    from edgebench_kernels.checkpoints.directory import Int4Checkpoint
    from edgebench_kernels.checkpoints.layout import Format
    from edgebench_kernels.engine import LlamaConfig

HEAD = "lm_head"
EXPORTED = ("rtn", "awq", "gptq", "smoothquant", "awq+gptq", "smoothquant+gptq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizing:
    """How a source that is not quantized is: by which transform, learning from which text."""

    transform: str | None = None
    """None: round to nearest, symmetric, as any format can hold it."""
    calibration: Path | None = None

    @property
    def is_asked(self) -> bool:
        """Whether anything was."""
        return self.transform is not None or self.calibration is not None


def import_command(source: str, out: Path, progress: Progress) -> str:
    """Read a 4-bit checkpoint of another tool into canonical tensors; see `convert`."""
    return convert(source, "canonical", out, must_be_quantized=True, progress=progress)


def convert(
    source: str,
    to: str,
    out: Path,
    *,
    how: Quantizing | None = None,
    must_be_quantized: bool = False,
    progress: Progress,
) -> str:
    """Write `source` in the format `to`, and say what was written.

    A source that is not quantized is, by the transform; its lm_head stays as it is, because not
    every loader takes a quantized one. Raises SpecError for a layout or a choice that is not
    known, AssetError for a broken source, StorageError.
    """
    from edgebench_kernels.checkpoints import find_format
    from edgebench_kernels.checkpoints.directory import copy_beside, require_new, write_int4
    from edgebench_kernels.checkpoints.quantization import quantization_of

    with _errors(out):
        layout = find_format(to)
        require_new(out)
        directory = find_model(source)
        is_quantized = quantization_of(directory) is not None
        how = how or Quantizing()
        _check_choice(source, how, is_quantized, must_be_quantized)
        config = _config(directory)
        chain = None
        if not is_quantized:
            chain = _quantizing(how.transform or _any_formats(config), layout, _widths(config))
        with progress.stage(f"reading {source}"):
            if chain is None:
                what, checkpoint = _read(directory, config, layout)
            else:
                what = str(chain)
                checkpoint = _quantized(directory, config, chain, how.calibration, progress)
        with progress.stage(f"writing {to}"):
            write_int4(checkpoint, layout, out)
            copy_beside(directory, out)
    count = len(checkpoint.quantized)
    return f"{to}: {out}, {count} linears from {what}"


@contextmanager
def _errors(out: Path) -> Iterator[None]:
    """Inside, the errors of kernels and workloads become the harness's."""
    from edgebench_kernels.checkpoints.layout import UnsupportedLayout

    try:
        yield
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


def _read(directory: Path, config: LlamaConfig, to: Format) -> tuple[str, Int4Checkpoint]:
    """A 4-bit source and the name of its format, checked before and after it is read."""
    from edgebench_kernels.checkpoints.directory import read_int4
    from edgebench_kernels.checkpoints.footprint import converting_bytes
    from edgebench_kernels.engine import require_whole

    needed = converting_bytes(directory, to)
    require_converting_memory(needed, directory.name, describe_system())
    came, checkpoint = read_int4(directory)
    require_whole(checkpoint, config)
    return came.name, checkpoint


def _check_choice(
    source: str, how: Quantizing, is_quantized: bool, must_be_quantized: bool
) -> None:
    if is_quantized and how.is_asked:
        raise SpecError(
            f"[export] {source} is quantized already, so --transform and --calibration have "
            "nothing to do; omit them"
        )
    if must_be_quantized and not is_quantized:
        raise SpecError(
            f"[import] {source} is not quantized (its config.json has no quantization_config); "
            "'bench export checkpoint' quantizes one"
        )


def _quantized(
    directory: Path,
    config: LlamaConfig,
    chain: TransformChain,
    calibration: Path | None,
    progress: Progress,
) -> Int4Checkpoint:
    """The source by the transform, its folded norms and biases beside the codes."""
    from edgebench_kernels.checkpoints.directory import Int4Checkpoint
    from edgebench_kernels.checkpoints.files import read_json
    from edgebench_kernels.engine import with_tensors

    check_calibration("export", chain, is_given=calibration is not None)
    given = None
    if calibration is not None:
        given = read_calibration(calibration, directory, config).set
    require_quantizing_memory(directory.name, config, chain, given, describe_system())
    linears = _linears(directory)
    with progress.stage(f"{directory.name}: {chain}") as update:
        quantized = apply_transform(chain, linears, update, calibration=given)
    weights = with_tensors(linears.weights, quantized.folded.replaced())
    rest = {
        name: tensor
        for name, tensor in weights.tensors.items()
        if name.removesuffix(".weight") not in quantized.tensors
    }
    raw = read_json(directory / CONFIG_FILE)
    return Int4Checkpoint(config=raw, quantized=quantized.tensors, tensors=rest)


def _config(directory: Path) -> LlamaConfig:
    """The model's shape; SpecError for a family that does not run here, or code of its own."""
    from edgebench_kernels.engine import read_config

    try:
        return read_config(directory / CONFIG_FILE, may_be_quantized=True)
    except ValueError as error:
        raise SpecError(str(error)) from error


def _quantizing(text: str, layout: Format, widths: Mapping[str, int]) -> TransformChain:
    """The transforms that a text names; SpecError for what the layout cannot hold.

    No layout holds a model whose own weights were changed.
    """
    chain = parse_transform(text)
    if chain.changes:
        names = " and ".join(dict.fromkeys(step.name for step in chain.changes))
        raise SpecError(
            f"[export] expected --transform to be one of {', '.join(EXPORTED)}, got {chain}: "
            f"{names} makes another model, for the open track; leave it out"
        )
    is_symmetric = any(step.parameters.get("symmetric") for step in chain.steps)
    if not layout.holds_zeros and not is_symmetric:
        raise SpecError(
            f"[export] expected a symmetric --transform for {layout.name}, which is written "
            f"symmetric only, got {chain}, which chooses zero points; take "
            f"{chain.names[0]}:symmetric=true, or write awq-gemm"
        )
    require_fitting_groups("export", chain, widths)
    if layout.states_one_group:
        require_one_group(chain, widths, layout.name)
    return chain


def _any_formats(config: LlamaConfig) -> str:
    """Symmetric in the largest group that divides every K, which each format can hold."""
    widths = _widths(config)
    require_fitting_groups("export", parse_transform(DEFAULT_TRANSFORM), widths)
    return f"rtn:group={choose_group(math.gcd(*widths.values()))},symmetric=true"


def _widths(config: LlamaConfig) -> dict[str, int]:
    """The inputs of every linear that is quantized: all but lm_head."""
    from edgebench_kernels.engine import linear_shapes

    return {name: k for name, (_, k) in linear_shapes(config).items() if HEAD not in name}


def _linears(directory: Path) -> LoadedLinears:
    """All but lm_head."""
    from edgebench_kernels.engine import load_reference

    linears = linears_of(load_reference(directory), file_hashes(directory))
    return replace(linears, names=tuple(name for name in linears.names if name != HEAD))
