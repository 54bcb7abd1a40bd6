"""The record: the strict schema of `record.json`, the waist between measuring and judging.

One record describes one bundle: one (workload, scenario) on one system, with every kernel that was
measured side by side. Every number here is derived from the raw rows beside it (`samples.jsonl`,
`nll.jsonl`, `ceilings.jsonl`, `power.csv`); the checker derives them again and trusts none.
Not measured is None, never 0.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgebench.conditions_record import Conditions as Conditions
from edgebench.conditions_record import ConditionSample as ConditionSample
from edgebench.conditions_record import Sustained as Sustained
from edgebench.energy_record import Energy as Energy
from edgebench.energy_record import EnergyMetrics as EnergyMetrics
from edgebench.energy_record import PhaseEnergy as PhaseEnergy
from edgebench.network_record import Coded as Coded
from edgebench.network_record import OpenNetwork as OpenNetwork
from edgebench.strict import Count as Count
from edgebench.strict import ExecutedPath as ExecutedPath
from edgebench.strict import Fraction as Fraction
from edgebench.strict import Name as Name
from edgebench.strict import NonNegative as NonNegative
from edgebench.strict import Sha256 as Sha256
from edgebench.strict import StrictModel as StrictModel
from edgebench.strict import Text as Text
from edgebench.subnet_record import OpenSubnet as OpenSubnet
from edgebench.tensor_facts import TensorFacts as TensorFacts
from edgebench.training_record import Training as Training

Track = Literal["closed", "open"]
Scenario = Literal["single-stream", "offline"]
Profile = Literal["quick", "standard", "official"]
Kernel = Literal["fp16", "int4", "open", "external"]
"""open: the open track's model where it stays fp16; where it is quantized it runs as int4."""
Kind = Literal["text", "images"]
Mode = Literal["performance", "accuracy"]
Endpoint = Literal["/v1/completions", "/v1/chat/completions"]
PromptForm = Literal["token ids", "text"]
CeilingName = Literal["read_bandwidth", "int8", "fp16", "bf16", "fp32"]


def kernel_title(kernel: Kernel) -> str:
    """Return a kernel's name as people read it."""
    return {"external": "external engine", "open": "open model, fp16"}.get(kernel, kernel)


class SampleRow(StrictModel):
    """One line of `samples.jsonl`: one sample issued to one kernel. Times are monotonic, in ns."""

    kernel: Kernel
    mode: Mode
    block: Count = Field(description="ABBA block (single-stream) or round (offline) it ran in")
    query: Count = Field(description="query number; equal numbers pair the kernels")
    sample: Count = Field(description="index into the scored set")
    issued_ns: Count
    first_token_ns: Count
    completed_ns: Count
    output_ids: list[Count] = Field(
        max_length=4096, description="token ids, end-of-sequence included"
    )


class NllRow(StrictModel):
    """One line of `nll.jsonl`: the teacher-forced negative log-likelihood of one sample's call."""

    kernel: Kernel
    sample: Count
    nll_nats: NonNegative = Field(description="summed over the call's tokens and end-of-sequence")
    tokens: Annotated[int, Field(ge=1)]


class CeilingRow(StrictModel):
    """One line of `ceilings.jsonl`: one repeat of one ceiling, interleaved through the run."""

    ceiling: CeilingName
    instruction: Text
    threads: Annotated[int, Field(ge=1)]
    taken_ns: Count
    value: Annotated[float, Field(gt=0.0)] = Field(
        description="bytes/s, or arithmetic op/s (2 per multiply-add)"
    )


class RooflinePlace(StrictModel):
    """Where a kernel stands under the ceilings measured on this device in this run (0..100+ %)."""

    bytes_per_token: NonNegative | None = None
    operations_per_token: NonNegative | None = None
    percent_of_bandwidth: NonNegative | None = None
    percent_of_compute: NonNegative | None = None
    compute_ceiling: Literal["int8", "fp16", "bf16", "fp32"] | None = None
    reason: Text | None = Field(default=None, description="why a percentage is None")


class TimedWeights(StrictModel):
    """The INT4 weights of the engine that was timed."""

    model_sha256: Sha256 = Field(description="of the tensors that it packed, as the ledger has it")
    before_sha256: Sha256 = Field(description="of its packed bytes before the first timed block")
    after_sha256: Sha256 = Field(description="of its packed bytes after the last timed block")
    packed_bytes: Count = Field(description="codes, scales, zero points and padding")


class ModelCost(StrictModel):
    """What a model of images costs on paper, as one kernel holds it."""

    parameters: Count = Field(description="weights and biases, norms folded in")
    macs: Count = Field(description="multiply-accumulates for one image")
    model_bytes: Count = Field(
        description="of all tensors: INT4 with scales and zero points, INT8 with scales, the "
        "others in fp16"
    )
    peak_activation_bytes: Count = Field(
        description="MCUNet's definition (arXiv:2007.10319): the largest sum over the layers of "
        "input, output and a shortcut kept beside, at one byte each"
    )


class KernelResult(StrictModel):
    """What one kernel reached in one scenario."""

    kernel: Kernel
    executed_path: ExecutedPath = Field(description="what really ran, e.g. 'w4a16/avx512_vnni'")
    transform: Text = Field(description="'none' for the reference, else e.g. 'rtn:group=64'")
    valid: bool
    invalid_reasons: list[Text] = Field(default=[])
    warnings: list[Text] = Field(default=[])
    samples: Count = Field(description="performance samples")
    queries: Count
    duration_s: NonNegative = Field(description="sum over this kernel's own performance blocks")
    latency_p50_ms: NonNegative | None = None
    latency_p90_ms: NonNegative | None = Field(default=None, description="early-stopping estimate")
    latency_p90_raw_ms: NonNegative | None = None
    ttft_p90_ms: NonNegative | None = None
    tpot_p90_ms: NonNegative | None = None
    samples_per_s: NonNegative | None = None
    tokens_per_s: NonNegative | None = Field(default=None, description="output tokens")
    energy: Energy
    energy_beside: list[Energy] = Field(
        default=[], description="what other meters and domains saw in the same blocks"
    )
    energy_metrics: EnergyMetrics | None = Field(default=None, description="null: unmeasured")
    sustained: Sustained | None = Field(default=None, description="null: under two minutes")
    accuracy: Fraction | None = None
    accuracy_samples: Count = 0
    accuracy_reference: Fraction | None = None
    accuracy_ratio: NonNegative | None = None
    accuracy_passed: bool | None = None
    call_nll: NonNegative | None = Field(default=None, description="nats per call token")
    mean_output_tokens: NonNegative | None = None
    weight_bytes: Count | None = Field(description="null for an external engine: unknown")
    peak_memory_bytes: Count | None = Field(
        default=None,
        description="highest resident size of the whole process during this kernel's blocks; the "
        "other kernels' weights are resident too, so it bounds what this kernel needs from above; "
        "on a GPU, of what torch held there",
    )
    batch_size: Annotated[int, Field(ge=1)]
    roofline: RooflinePlace
    speedup: NonNegative | None = Field(default=None, description="over fp16; None on fp16")
    speedup_ci95: tuple[NonNegative, NonNegative] | None = None
    timed_weights: TimedWeights | None = Field(
        default=None, description="null for fp16, on a GPU, and in records of older versions"
    )
    cost: ModelCost | None = Field(default=None, description="null for a workload of text")


class WorkloadIdentity(StrictModel):
    """Which task, which weights, which data: hashes the checker compares with its own."""

    name: Name
    kind: Kind = Field(
        default="text",
        description="images: an answer is one class id, so there are no tokens and none of ttft, "
        "tpot, tokens_per_s and mean_output_tokens; call_nll is of the right class, nats an image",
    )
    disclosure: Text | None = Field(default=None, description="what is artificial about the model")
    task_sha256: Sha256
    reference_sha256: Sha256 = Field(description="the reference's model.safetensors")
    scored_sha256: Sha256
    calibration_sha256: Sha256


class ExternalServer(StrictModel):
    """The server behind the kernel `external`, as far as it says what it is."""

    url: Text = Field(description="another machine is called REMOTE")
    endpoint: Endpoint
    prompt_form: PromptForm
    model: Text = Field(description="the served model's name; of a folder its last part")
    software: Text | None = Field(description="its Server header and version; null: it says none")
    concurrency: Annotated[int, Field(ge=1)] = Field(description="requests in flight, offline")
    notes: list[Text] = Field(default=[])


class Seeds(StrictModel):
    sample_index: Count
    schedule: Count


class KernelTuning(StrictModel):
    """What timing on this machine chose for the INT4 kernels; changes no result."""

    prefetch_bytes: Count = Field(description="how far ahead streaming kernels prefetch; 0: not")
    few_tokens: dict[Name, Count] = Field(
        description="path -> most tokens computed straight from the nibbles, beyond it unpacked"
    )


class Host(StrictModel):
    """What was asked for and what the run executed on."""

    device_requested: Name
    device: Name
    executed_on: Text
    last_level_cache_bytes: Count | None = Field(default=None, description="on a GPU, its L2")
    threads: Annotated[int, Field(ge=1)]
    affinity: list[Count] | None = Field(default=None, description="CPUs asked for; null: any")
    kernel_tuning: KernelTuning | None = None
    simulated: bool = Field(
        default=False, description="a tree of files stood for the device; never ranked unasked"
    )
    other_runs_seen: bool = Field(description="another EdgeBench run held the machine's lock")


class Ceiling(StrictModel):
    """The median of the repeats of one ceiling, and the highest of them."""

    ceiling: CeilingName
    instruction: Text
    median: Annotated[float, Field(gt=0.0)]
    repeats: Count
    highest: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None, description="what the machine was seen to reach; null in older records"
    )


class Provenance(StrictModel):
    tool_version: Name
    git_commit: Text | None = None
    git_dirty: bool | None = None
    command: Text
    started_utc: Text
    finished_utc: Text | None = None


class Record(StrictModel):
    """`record.json`."""

    schema_version: Literal[1]
    run_id: Name
    complete: bool
    track: Track
    organisation: Name
    system: Name
    workload: WorkloadIdentity
    scenario: Scenario
    profile: Profile
    stamps: list[Text] = Field(default=[], description="e.g. NON-COMPLIANT-DURATION")
    not_closed: list[Text] = Field(
        default=[], description="what disqualifies it from the closed track, from its ledger"
    )
    seeds: Seeds
    external: ExternalServer | None = Field(
        default=None, description="given exactly where the kernel `external` was measured"
    )
    host: Host
    idle_windows: list[tuple[Count, Count]] = Field(
        default=[],
        max_length=2,
        description="(start, end) in ns, before and after the measured blocks: nothing ran",
    )
    conditions: Conditions | None = Field(
        default=None, description="null in records of older versions"
    )
    ceilings: list[Ceiling]
    results: list[KernelResult]
    provenance: Provenance


class TransformStep(StrictModel):
    """One ledger entry: what was done to the weights, with content hashes before and after."""

    transform: Name
    parameters: dict[Name, int | float | str | bool | None]
    before_sha256: Sha256
    after_sha256: Sha256
    calibration_sha256: Sha256 | None = None
    choices: dict[Text, float] = Field(
        default={}, description="what a search chose: norm or linear -> exponent of its scales"
    )


class OpenShape(StrictModel):
    """The shape of the open track's model: a decoder of the Llama family, without biases."""

    vocab_size: Annotated[int, Field(ge=1)]
    hidden_size: Annotated[int, Field(ge=1)]
    intermediate_size: Annotated[int, Field(ge=1)]
    layers: Annotated[int, Field(ge=1, le=1000)]
    heads: Annotated[int, Field(ge=1)]
    kv_heads: Annotated[int, Field(ge=1)]
    head_dim: Annotated[int, Field(ge=1)]
    is_tied: bool = Field(description="lm_head reads the embedding's weight")


class OpenModel(StrictModel):
    """What the open track's model is: measured on its tensors, computed again by the checker."""

    shape: OpenShape
    kept: dict[Text, Sha256] = Field(
        description="tensors of open.safetensors, in fp16: all of the model that is not INT4"
    )
    tensors: dict[Text, TensorFacts]
    params_total: Count
    params_nonzero: Count
    bits_per_weight: NonNegative = Field(description="stored bytes of all tensors, per parameter")
    entropy_bits_per_weight: NonNegative
    dense_macs_per_token: Count = Field(
        description="multiply-adds of one decode step: linear layers, and attention to "
        "macs_context_tokens tokens"
    )
    effective_macs_per_token: Count = Field(
        description="the same without the weights that are zero; no speed follows from it"
    )
    macs_context_tokens: Count
    peak_memory_bytes: Count
    peak_memory_definition: Text
    training: list[Training] = Field(default_factory=list)


class Ledger(StrictModel):
    """`ledger.json`: the provenance of the quantized weights."""

    reference_sha256: Sha256
    steps: list[TransformStep]
    tensors: dict[Text, Sha256]
    tensors_file: Name | None = Field(default=None, description="in the bundle when <= 16 MB")
    folded: dict[Text, Sha256] = Field(
        default={},
        description="arrays of folded.safetensors: norms that carry scales, and the scales",
    )
    convolutions: dict[Text, Sha256] = Field(
        default={},
        description="INT8 weights of the layers that are no matrix products; they follow from the "
        "fp16 ones bit for bit, so no file holds them",
    )
    graph_sha256: Sha256 = Field(description="of the architecture: config fields and tensor shapes")
    open_model: OpenModel | None = Field(
        default=None, description="given exactly where a step changed the model: open track only"
    )
    open_subnet: OpenSubnet | None = Field(
        default=None, description="given exactly where nas searched a model of images"
    )
    open_network: OpenNetwork | None = Field(
        default=None, description="given exactly where another step changed a model of images"
    )


class Row(StrictModel):
    """One flat, paste-able result row: what `--format json|csv|md` prints."""

    run_id: Name
    track: Track
    workload: Name
    scenario: Scenario
    kernel: Kernel
    executed_path: Text
    transform: Text
    profile: Profile
    device: Name
    valid: bool
    invalid_reasons: list[Text]
    warnings: list[Text]
    samples: Count
    duration_s: NonNegative
    latency_p50_ms: NonNegative | None
    latency_p90_ms: NonNegative | None
    latency_p90_raw_ms: NonNegative | None
    ttft_p90_ms: NonNegative | None
    tpot_p90_ms: NonNegative | None
    samples_per_s: NonNegative | None
    tokens_per_s: NonNegative | None
    energy: Energy
    energy_metrics: EnergyMetrics | None
    accuracy: Fraction | None
    accuracy_reference: Fraction | None
    accuracy_ratio: NonNegative | None
    accuracy_passed: bool | None
    call_nll: NonNegative | None
    weight_bytes: Count | None
    peak_memory_bytes: Count | None
    percent_of_bandwidth: NonNegative | None
    percent_of_compute: NonNegative | None
    speedup: NonNegative | None
    speedup_ci95: tuple[NonNegative, NonNegative] | None


def rows(record: Record) -> list[Row]:
    """Flatten a record into one row per kernel."""
    shared = {
        "run_id": record.run_id,
        "track": record.track,
        "workload": record.workload.name,
        "scenario": record.scenario,
        "profile": record.profile,
        "device": record.host.device,
    }
    place = ("percent_of_bandwidth", "percent_of_compute")
    flat = []
    for result in record.results:
        names = [name for name in Row.model_fields if name not in shared and name not in place]
        own = {name: getattr(result, name) for name in names}
        own |= {name: getattr(result.roofline, name) for name in place}
        flat.append(Row.model_validate({**shared, **own}))
    return flat
