"""`--workload llm`: the perplexity of a text under a model of the user's own, fp16 and INT4."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from edgebench import __version__
from edgebench.calibration_text import CalibrationText, read_calibration, require_known
from edgebench.codec import encode_model, make_folder, write_atomic
from edgebench.devices import resolve
from edgebench.draft import new_run_id, repeat_command
from edgebench.errors import AssetError, RunFailed, SpecError, harness_error
from edgebench.estimate import require_converting_memory, require_quantizing_memory
from edgebench.kernel_tuning import present_tuning
from edgebench.perplexity_record import (
    Calibration,
    Executed,
    ModelIdentity,
    PerplexityRecord,
    PerplexityResult,
    Protocol,
    derive_result,
)
from edgebench.prepared_text import CONFIG_FILE
from edgebench.progress import Progress
from edgebench.record import Kernel, Provenance
from edgebench.run import set_affinity
from edgebench.spec import DEFAULT_TRANSFORM, ModelRequest, RunSpec
from edgebench.system import SystemDescription, describe_system, usable_cores
from edgebench.target import Target, open_target
from edgebench.transform import TransformChain, apply_transform
from edgebench.transform.group_fit import require_fitting_groups
from edgebench.transform.loaded import file_hashes, linears_of
from edgebench.transform.quantized import Folded, QuantizedModel
from edgebench.utc import utc_now
from edgebench_kernels.checkpoints.layout import UnsupportedLayout
from edgebench_workloads.errors import WorkloadError
from edgebench_workloads.llm.perplexity import Window, denominators, window_nats, windows_of
from edgebench_workloads.llm.source import find_model
from edgebench_workloads.llm.text import (
    TOKENIZER,
    TokenizedText,
    load_tokenizer,
    read_text,
    tokenize,
)
from edgebench_workloads.weights import sha256_of

if TYPE_CHECKING:
    from edgebench_kernels.engine import DecodeEngine, LlamaConfig, LlamaWeights
    from edgebench_kernels.engine.arithmetic import Int4Path
    from edgebench_kernels.formats import Int4Tensor

RECORD = "perplexity.json"
FOLDER = "perplexity"  # under --out, beside the divisions of the submission tree
PATHS: tuple[Int4Path, ...] = ("w4a16", "w4a8")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModel:
    """A model and a text, checked as far as they can be before weights are read."""

    directory: Path
    config: LlamaConfig
    is_quantized: bool
    text: TokenizedText
    windows: tuple[Window, ...]
    protocol: Protocol
    calibration: CalibrationText | None = None


def measure_own_model(
    spec: RunSpec, request: ModelRequest, progress: Progress
) -> tuple[PerplexityRecord, Path]:
    """Measure and file; returns the record and where it lies.

    Raises SpecError for what cannot run, AssetError for what is missing or broken, RunFailed where
    memory does not suffice or an arithmetic overflows, StorageError.
    """
    set_affinity(spec.affinity)
    device = resolve(spec.device)
    target = open_target(device.backend)
    system = target.described(describe_system())
    started_utc = utc_now()
    with target.errors():
        with progress.stage(f"{request.name}: text"):
            model = open_model(request)
        _require_fitting(model, request, spec.transform)
        _require_memory(model, spec.transform, target, system)
        make_folder(spec.out / FOLDER)  # found before anything is measured, if it is closed
        target.prepare(spec.threads or usable_cores(), spec.affinity, present_tuning())
        measured = _measure(spec, request, model, device.backend, progress)
    record = PerplexityRecord(
        schema_version=1,
        run_id=new_run_id(),
        organisation=spec.organisation,
        system=system.name,
        executed_on=device.executed_on,
        model=measured.identity,
        protocol=model.protocol,
        calibration=measured.calibration,
        results=measured.results,
        provenance=Provenance(
            tool_version=__version__,
            git_commit=system.software.git_commit,
            git_dirty=system.software.git_dirty,
            command=repeat_command(spec),
            started_utc=started_utc,
            finished_utc=utc_now(),
        ),
    )
    folder = spec.out / FOLDER / record.organisation / record.system / record.run_id
    make_folder(folder)
    write_atomic(folder / RECORD, encode_model(record))
    return record, folder / RECORD


def open_model(request: ModelRequest) -> OwnModel:
    """Find the model, read its config, cut the text; nothing of the weights is read."""
    from edgebench_kernels.checkpoints.quantization import quantization_of
    from edgebench_kernels.engine import read_config

    try:
        directory = find_model(request.model)
        config = read_config(directory / CONFIG_FILE, may_be_quantized=True)
        is_quantized = quantization_of(directory) is not None
        text = tokenize(load_tokenizer(directory), read_text(request.text))
        if not text.text_size_bytes:
            raise SpecError(f"[llm] expected a text to predict, got {request.text}, which is empty")
        windows = windows_of(len(text.ids), request.context, request.stride)
        _check_fit(config, text, request)
        calibration = _calibration(request, directory, config, text, is_quantized)
    except WorkloadError as error:
        raise harness_error(error) from error
    except ValueError as error:
        raise SpecError(str(error)) from error
    counted = denominators(text, windows)
    protocol = Protocol(
        tokenizer_sha256=sha256_of(directory / TOKENIZER),
        text_sha256=sha256_of(request.text),
        text_size_bytes=text.text_size_bytes,
        context=request.context,
        stride=request.stride,
        windows=len(windows),
        special_tokens=text.special_tokens,
        tokens=counted.tokens,
        words=counted.words,
        bytes=counted.bytes,
    )
    return OwnModel(
        directory=directory,
        config=config,
        is_quantized=is_quantized,
        text=text,
        windows=windows,
        protocol=protocol,
        calibration=calibration,
    )


def _calibration(
    request: ModelRequest,
    directory: Path,
    config: LlamaConfig,
    text: TokenizedText,
    is_quantized: bool,
) -> CalibrationText | None:
    if request.calibration is None:
        return None
    if is_quantized:
        raise SpecError(
            f"[llm] {request.name} is quantized already, so --transform and --calibration have "
            "nothing to do; omit them"
        )
    return read_calibration(request.calibration, directory, config, text.ids)


def _check_fit(config: LlamaConfig, text: TokenizedText, request: ModelRequest) -> None:
    largest = min(config.max_position_embeddings, config.sliding_window or math.inf)
    if request.context > largest:
        raise SpecError(
            f"[llm] expected --context to be at most {largest}, which this model attends to, "
            f"got {request.context}"
        )
    require_known(int(text.ids.max()), config)


def _require_fitting(model: OwnModel, request: ModelRequest, transform: TransformChain) -> None:
    """SpecError where the transform has nothing to do here, or its groups do not fit."""
    from edgebench_kernels.engine import linear_shapes

    if not model.is_quantized:
        widths = {name: k for name, (_, k) in linear_shapes(model.config).items()}
        require_fitting_groups("run", transform, widths)
    elif str(transform) != DEFAULT_TRANSFORM:
        raise SpecError(
            f"[llm] {request.name} is quantized already, so --transform {transform} has nothing to "
            "do; omit it"
        )


def _require_memory(
    model: OwnModel, transform: TransformChain, target: Target, system: SystemDescription
) -> None:
    from edgebench_kernels.engine.weights import tensor_shapes

    weights_bytes = 2 * sum(math.prod(shape) for shape in tensor_shapes(model.config).values())
    widest = max(window.stop - window.start for window in model.windows)
    logits_bytes = 4 * widest * model.config.vocab_size
    shortage = target.memory_shortage(weights_bytes + logits_bytes, system)
    if shortage is not None:
        raise RunFailed(f"[llm] {model.directory.name} was not started: {shortage}")
    if model.is_quantized:
        return
    calibration = None if model.calibration is None else model.calibration.set
    require_quantizing_memory(model.directory.name, model.config, transform, calibration, system)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """The model in fp16 and in INT4, and what was done to make the two."""

    fp16: LlamaWeights
    int4: Mapping[str, Int4Tensor]
    kept: tuple[str, ...]
    made_fp16: str
    made_int4: str
    folded: Folded = field(default_factory=Folded)
    calibration: Calibration | None = None

    def beside_int4(self) -> LlamaWeights:
        """What is not quantized, with the norms and biases that carry scales."""
        from edgebench_kernels.engine import with_tensors

        return with_tensors(self.fp16, self.folded.replaced())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What a record takes of a measurement."""

    identity: ModelIdentity
    calibration: Calibration | None
    results: list[PerplexityResult]


def _measure(
    spec: RunSpec, request: ModelRequest, model: OwnModel, device: str, progress: Progress
) -> _Measured:
    """fp16 first and let go of, then INT4 by both of its paths on one copy of packed weights."""
    from edgebench_kernels.checkpoints.footprint import converting_bytes
    from edgebench_kernels.engine import RegimeChoice, build_fp16, build_int4, pack_int4

    try:
        if model.is_quantized:
            needed = converting_bytes(model.directory)
            require_converting_memory(needed, model.directory.name, describe_system())
        hashes = file_hashes(model.directory)
        weights = _load(model, spec.transform, hashes, progress)
    except UnsupportedLayout as error:
        raise SpecError(str(error)) from error
    except ValueError as error:
        raise AssetError(str(error)) from error
    identity = ModelIdentity(
        name=request.name,
        config_sha256=sha256_of(model.directory / CONFIG_FILE),
        weights_sha256=hashes,
    )
    room = min(request.context, len(model.text.ids))
    # The reference multiplies fp16 weights in fp32: its perplexity owes nothing to bf16. Torch runs
    # what is between, because two pools of threads would fight.
    is_cpu = device == "cpu"
    engine = build_fp16(
        weights.fp16,
        RegimeChoice.uniform("fp32") if is_cpu else None,
        max_length=room,
        device=device,
        ops="torch" if is_cpu else None,
    )
    results = [_score(model, engine, "fp16", weights.made_fp16, None, progress)]
    del engine
    packed = pack_int4(weights.fp16, weights.int4, device, weights.kept)
    for path in PATHS:
        engine = build_int4(
            weights.beside_int4(),
            {},
            path,
            packed=packed,
            max_length=room,
            device=device,
            kept=weights.kept,
        )
        results.append(_score(model, engine, "int4", weights.made_int4, results[0], progress))
    return _Measured(identity=identity, calibration=weights.calibration, results=results)


def _load(
    model: OwnModel, transform: TransformChain, hashes: Mapping[str, str], progress: Progress
) -> _Weights:
    """A 4-bit checkpoint as it is, any other quantized by the transform."""
    from edgebench_kernels.engine import load_imported, load_reference

    if model.is_quantized:
        with progress.stage(f"{model.directory.name}: importing"):
            imported = load_imported(model.directory)
        return _Weights(
            fp16=imported.weights,
            int4=imported.quantized,
            kept=imported.kept,
            made_fp16=f"dequantized from {imported.format}",
            made_int4=f"imported from {imported.format}",
        )
    weights = load_reference(model.directory)
    linears = linears_of(weights, hashes)
    text = model.calibration
    try:
        with progress.stage(f"{model.directory.name}: {transform}") as update:
            quantized = apply_transform(
                transform, linears, update, calibration=None if text is None else text.set
            )
    except ValueError as error:
        raise SpecError(str(error)) from error
    return _Weights(
        fp16=weights,
        int4=quantized.tensors,
        kept=(),
        made_fp16="none",
        made_int4=str(transform),
        folded=quantized.folded,
        calibration=None if text is None else _used(text, quantized),
    )


def _used(text: CalibrationText, quantized: QuantizedModel) -> Calibration:
    """What of the calibration text the transforms took."""
    return Calibration(
        text_sha256=text.set.sha256,
        block_tokens=text.block_tokens,
        blocks=cast(int, quantized.steps[0].parameters["samples"]),
    )


def _score(
    model: OwnModel,
    engine: DecodeEngine,
    kernel: Kernel,
    transform: str,
    reference: PerplexityResult | None,
    progress: Progress,
) -> PerplexityResult:
    executed = Executed(kernel=kernel, executed_path=engine.describe(), transform=transform)
    title = f"{model.directory.name} perplexity {executed.executed_path}"
    try:
        with progress.stage(title) as update:
            nats = list(window_nats(engine, model.text, model.windows, update))
    except FloatingPointError as error:
        raise RunFailed(str(error)) from error
    return derive_result(model.protocol, executed, nats, reference)
