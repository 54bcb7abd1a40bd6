"""Preparing a workload: verified weights, prompts, the quantized model and its ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from edgebench import layout
from edgebench.errors import AssetError, BenchError, SpecError
from edgebench.open_model import describe, kept_shapes, not_closed, shape_of
from edgebench.profiles import TENSORS_IN_BUNDLE_BYTES
from edgebench.progress import Progress
from edgebench.record import Ledger, OpenModel, WorkloadIdentity
from edgebench.transform import TransformChain, apply_transform
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.changed import ChangedModel, Source, changed_once
from edgebench.transform.kept import quantized_once
from edgebench.transform.quantized import (
    QuantizedModel,
    ReferenceLinears,
    folded_hashes,
    open_reference,
)
from edgebench_kernels.formats import Int4Tensor, tensor_sha256
from edgebench_workloads.assistant.tokenizer import EOS as EOS_ID
from edgebench_workloads.assistant.tokenizer import call_ids, prompt_ids
from edgebench_workloads.catalog import WORKLOADS, Workload
from edgebench_workloads.errors import WorkloadAssetError, WorkloadError

if TYPE_CHECKING:
    from edgebench_workloads.assistant.dataset import Pair

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "config.json"
GRAPH_FIELDS = (
    "architectures", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedWorkload:
    """Everything a scenario needs, with every byte that it came from already verified.

    prompts and calls are token ids of the scored set, in order; a call ends with end-of-sequence.
    """

    workload: Workload
    directory: Path
    tokenizer: Tokenizer
    eos_id: int
    pairs: Sequence[Pair]
    prompts: Sequence[Sequence[int]]
    calls: Sequence[Sequence[int]]
    quantized: QuantizedModel
    identity: WorkloadIdentity
    ledger: Ledger
    changed: ChangedModel | None = None
    """The open track's model, where its steps made one."""

    @property
    def candidate_directory(self) -> Path:
        """The checkpoint that runs beside the reference, or is quantized to."""
        return self.directory if self.changed is None else self.changed.directory

    @property
    def not_closed(self) -> list[str]:
        """What disqualifies it from the closed track."""
        if self.changed is None:
            return not_closed(self.ledger, None)
        from edgebench_kernels.engine import read_config

        return not_closed(self.ledger, shape_of(read_config(self.directory / CONFIG_FILE)))


def graph_sha256(directory: Path) -> str:
    """Hash the architecture: the config fields that define the graph."""
    config = json.loads((directory / CONFIG_FILE).read_text())
    fields = {name: config.get(name) for name in GRAPH_FIELDS}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def size_bytes(tensors: Mapping[str, Int4Tensor]) -> int:
    """Return the canonical size of a quantized model."""
    return sum(tensor.size_bytes for tensor in tensors.values())


def prepare(
    name: str,
    transform: TransformChain | None,
    progress: Progress,
    quantized: QuantizedModel | None = None,
) -> PreparedWorkload:
    """Verify, generate where needed, tokenize and quantize one workload; None quantizes nothing.

    A model that is quantized already is taken as it is; the transform then only names it.
    """
    workload = WORKLOADS[name]
    try:
        with progress.stage(f"{name}: weights") as update:
            directory = workload.reference_directory(progress=update)
        pairs = workload.scored()
        calibration = calibration_set(workload, directory)
    except WorkloadError as error:
        raise harness_error(error) from error
    reference = open_reference(directory / WEIGHTS_FILE, workload.reference_sha256)
    changed = _changed(workload, transform, directory, calibration, progress)
    if changed is not None:
        reference = open_reference(changed.directory / WEIGHTS_FILE, changed.sha256)
    rounding = None if transform is None else transform.rounding
    if quantized is None:
        quantized = QuantizedModel(tensors={}, steps=())
        if rounding is not None:
            quantized = _quantized(name, rounding, reference, calibration, progress)
        if changed is not None:
            quantized = replace(quantized, steps=(*changed.made.steps, *quantized.steps))
    tokenizer, prompts, calls = encode_pairs(directory, pairs)
    return PreparedWorkload(
        workload=workload,
        directory=directory,
        tokenizer=tokenizer,
        eos_id=EOS_ID,
        pairs=pairs,
        prompts=prompts,
        calls=calls,
        quantized=quantized,
        identity=_identity(workload),
        ledger=_ledger(workload, directory, quantized, changed),
        changed=changed,
    )


def _changed(
    workload: Workload,
    transform: TransformChain | None,
    directory: Path,
    calibration: CalibrationSet,
    progress: Progress,
) -> ChangedModel | None:
    """The open track's model; None where no step changes the reference."""
    if transform is None or not transform.changes:
        return None
    steps = transform.changes
    tokenizer = Tokenizer.from_file(str(directory / TOKENIZER_FILE))

    def examples(size: int, start: int) -> list[tuple[list[int], int]]:
        from edgebench_workloads.assistant.dataset import training_pairs
        from edgebench_workloads.assistant.llama import encode

        return [encode(tokenizer, pair) for pair in training_pairs(size, start)]

    source = Source(
        directory=directory,
        sha256=workload.reference_sha256,
        calibration=calibration,
        examples=examples,
    )
    with progress.stage(f"{workload.name}: {'+'.join(map(str, steps))}") as update:
        return changed_once(steps, source, update)


def _quantized(
    name: str,
    rounding: TransformChain,
    reference: ReferenceLinears,
    calibration: CalibrationSet,
    progress: Progress,
) -> QuantizedModel:
    is_changed = reference.sha256 != WORKLOADS[name].reference_sha256
    with progress.stage(f"{name}: {rounding}") as update:
        return quantized_once(
            rounding,
            reference,
            calibration,
            lambda: apply_transform(
                rounding, reference, update, calibration=calibration, keeps_zeros=is_changed
            ),
        )


def harness_error(error: WorkloadError) -> BenchError:
    """Map a workload's error to the harness's, which knows the exit code."""
    kind = AssetError if isinstance(error, WorkloadAssetError) else SpecError
    return kind(str(error))


def encode_pairs(
    directory: Path, pairs: Sequence[Pair]
) -> tuple[Tokenizer, list[list[int]], list[list[int]]]:
    """Return the tokenizer and the token ids of prompts and calls."""
    tokenizer = Tokenizer.from_file(str(directory / TOKENIZER_FILE))
    prompts = [prompt_ids(tokenizer, pair.command) for pair in pairs]
    calls = [call_ids(tokenizer, pair.call) for pair in pairs]
    return tokenizer, prompts, calls


def calibration_set(workload: Workload, directory: Path) -> CalibrationSet:
    """The workload's calibration pairs as its model reads them; raises WorkloadError."""
    _, prompts, calls = encode_pairs(directory, workload.calibration())
    return CalibrationSet(
        sha256=workload.task.data.calibration_sha256,
        sequences=[prompt + call for prompt, call in zip(prompts, calls, strict=True)],
    )


def _identity(workload: Workload) -> WorkloadIdentity:
    return WorkloadIdentity(
        name=workload.name,
        disclosure=workload.disclosure,
        task_sha256=workload.task_sha256,
        reference_sha256=workload.reference_sha256,
        scored_sha256=workload.task.data.scored_sha256,
        calibration_sha256=workload.task.data.calibration_sha256,
    )


def _ledger(
    workload: Workload, directory: Path, quantized: QuantizedModel, changed: ChangedModel | None
) -> Ledger:
    fits = 0 < size_bytes(quantized.tensors) <= TENSORS_IN_BUNDLE_BYTES
    return Ledger(
        reference_sha256=workload.reference_sha256,
        steps=list(quantized.steps),
        tensors={name: tensor_sha256(t) for name, t in quantized.tensors.items()},
        tensors_file=layout.TENSORS if fits else None,
        folded=folded_hashes(quantized.folded),
        graph_sha256=graph_sha256(directory if changed is None else changed.directory),
        open_model=None if changed is None else _open_model(changed, quantized),
    )


def _open_model(changed: ChangedModel, quantized: QuantizedModel) -> OpenModel:
    shape, arrays = changed.shape(), changed.arrays()
    needed = kept_shapes(shape, is_quantized=bool(quantized.tensors))
    kept = {name: arrays[name] for name in needed}
    if (size := sum(array.nbytes for array in kept.values())) > TENSORS_IN_BUNDLE_BYTES:
        raise SpecError(
            f"[open] expected a model of at most {TENSORS_IN_BUNDLE_BYTES} bytes in fp16, which a "
            f"bundle holds, got {size}; quantize it (+ rtn)"
        )
    return describe(shape, quantized.tensors.items(), kept, changed.made.training)
