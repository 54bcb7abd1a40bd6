"""Preparing a workload: verified weights, prompts, the quantized model and its ledger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from edgebench import layout
from edgebench.errors import AssetError, BenchError, SpecError
from edgebench.profiles import TENSORS_IN_BUNDLE_BYTES
from edgebench.progress import Progress
from edgebench.record import Ledger, WorkloadIdentity
from edgebench.transform import TransformChain, apply_transform
from edgebench.transform.calibration import CalibrationSet
from edgebench.transform.kept import quantized_once
from edgebench.transform.quantized import QuantizedModel, folded_hashes, open_reference
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
    if transform is None:
        quantized = QuantizedModel(tensors={}, steps=())
    elif quantized is None:
        with progress.stage(f"{name}: {transform}") as update:
            quantized = quantized_once(
                transform,
                reference,
                calibration,
                lambda: apply_transform(transform, reference, update, calibration=calibration),
            )
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
        ledger=_ledger(workload, directory, quantized),
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


def _ledger(workload: Workload, directory: Path, quantized: QuantizedModel) -> Ledger:
    fits = 0 < size_bytes(quantized.tensors) <= TENSORS_IN_BUNDLE_BYTES
    return Ledger(
        reference_sha256=workload.reference_sha256,
        steps=list(quantized.steps),
        tensors={name: tensor_sha256(t) for name, t in quantized.tensors.items()},
        tensors_file=layout.TENSORS if fits else None,
        folded=folded_hashes(quantized.folded),
        graph_sha256=graph_sha256(directory),
    )
