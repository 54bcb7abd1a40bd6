"""Preparing a workload: verified weights, samples, the quantized model and its ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from edgebench.errors import SpecError, harness_error
from edgebench.images.prepare import prepare_images
from edgebench.ledger import identity_of, ledger_of
from edgebench.open_model import describe, kept_shapes
from edgebench.prepared import PreparedWorkload
from edgebench.prepared_text import CONFIG_FILE, PreparedText
from edgebench.profiles import TENSORS_IN_BUNDLE_BYTES
from edgebench.progress import Progress
from edgebench.record import OpenModel
from edgebench.transform import TransformChain, apply_transform
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.changed import ChangedModel, Source, changed_once
from edgebench.transform.kept import quantized_once
from edgebench.transform.quantized import (
    QuantizedModel,
    ReferenceLinears,
    open_reference,
)
from edgebench_workloads.assistant.tokenizer import EOS as EOS_ID
from edgebench_workloads.assistant.tokenizer import call_ids, prompt_ids
from edgebench_workloads.catalog import WORKLOADS, Workload
from edgebench_workloads.errors import WorkloadError

if TYPE_CHECKING:
    from edgebench_workloads.assistant.dataset import Pair

WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
GRAPH_FIELDS = (
    "architectures", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings",
)  # fmt: skip


def graph_sha256(directory: Path) -> str:
    """Hash the architecture: the config fields that define the graph."""
    config = json.loads((directory / CONFIG_FILE).read_text())
    fields = {name: config.get(name) for name in GRAPH_FIELDS}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def prepare(
    name: str,
    transform: TransformChain | None,
    progress: Progress,
    quantized: QuantizedModel | None = None,
) -> PreparedWorkload:
    """Verify, generate where needed, encode and quantize one workload; None quantizes nothing.

    A model that is quantized already is taken as it is; the transform then only names it.
    """
    workload = WORKLOADS[name]
    try:
        with progress.stage(f"{name}: weights") as update:
            directory = workload.reference_directory(progress=update)
        if workload.kind == "images":
            return prepare_images(workload, directory, transform, progress, quantized)
        pairs = workload.scored()
        calibration = calibration_set(workload, directory)
    except WorkloadError as error:
        raise harness_error(error) from error
    reference = open_reference(directory / WEIGHTS_FILE, workload.reference_sha256)
    changed = _changed(workload, transform, directory, calibration, progress)
    if changed is not None:
        reference = open_reference(changed.directory / WEIGHTS_FILE, changed.sha256)
    if quantized is None:
        quantized = QuantizedModel(tensors={}, steps=())
        if transform is not None and transform.rounding is not None:
            quantized = _quantized(name, transform, reference, calibration, progress)
        if changed is not None:
            quantized = replace(quantized, steps=(*changed.made.steps, *quantized.steps))
    tokenizer, prompts, calls = encode_pairs(directory, pairs)
    return PreparedText(
        workload=workload,
        directory=directory,
        tokenizer=tokenizer,
        eos_id=EOS_ID,
        pairs=pairs,
        prompts=prompts,
        calls=calls,
        quantized=quantized,
        identity=identity_of(workload),
        ledger=ledger_of(
            workload,
            graph_sha256(directory if changed is None else changed.directory),
            quantized,
            None if changed is None else _open_model(changed, quantized),
        ),
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
    try:
        student = workload.student() if "distill" in transform.names else None
    except WorkloadError as error:
        raise harness_error(error) from error
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
        student=student,
    )
    with progress.stage(f"{workload.name}: {'+'.join(map(str, steps))}") as update:
        return changed_once(steps, source, update)


def _quantized(
    name: str,
    transform: TransformChain,
    reference: ReferenceLinears,
    calibration: CalibrationSet,
    progress: Progress,
) -> QuantizedModel:
    rounding = transform.rounding
    assert rounding is not None, "the caller has something to quantize by"
    is_pruned = "prune" in transform.names
    with progress.stage(f"{name}: {rounding}") as update:
        return quantized_once(
            rounding,
            reference,
            calibration,
            lambda: apply_transform(
                rounding, reference, update, calibration=calibration, keeps_zeros=is_pruned
            ),
        )


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
