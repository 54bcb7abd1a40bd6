"""The strict schema of `task.toml`: what a workload promises, and the hashes that hold it to it."""

from __future__ import annotations

import difflib
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from edgebench_workloads.errors import TaskFileError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Metric = Literal["exact_match", "top1"]
Kind = Literal["text", "images"]
KINDS: Mapping[Metric, Kind] = {"exact_match": "text", "top1": "images"}
"""What a workload's samples are, by its metric: prompts to answer, or images to classify."""


class StrictModel(BaseModel):
    """A table of `task.toml`: immutable, unknown keys refused, NaN and inf refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Targets(StrictModel):
    """The least share of the fp16 reference's quality that passes (MLPerf's 99 % and 99.9 %)."""

    standard: Fraction
    high_accuracy: Fraction


class DataHashes(StrictModel):
    """The data sets by content: SHA-256 of the canonical JSON lines of each."""

    scored_count: Positive
    scored_sha256: Sha256
    calibration_count: Positive
    calibration_sha256: Sha256
    training_head_count: Positive = Field(description="how many first training pairs are hashed")
    training_head_sha256: Sha256


class ModelHashes(StrictModel):
    """The reference model by content; the files lie in `model/` beside `task.toml`."""

    size_bytes: Count = Field(description="of model.safetensors")
    sha256: Sha256 = Field(description="of model.safetensors")
    config_sha256: Sha256
    tokenizer_sha256: Sha256 | None = Field(default=None, description="none: a model of images")
    supernet_size_bytes: Count | None = Field(default=None, description="of supernet.safetensors")
    supernet_sha256: Sha256 | None = Field(
        default=None, description="of supernet.safetensors, which the reference is cut from"
    )


class NllWindow(StrictModel):
    """By which fraction a quantizer may raise the call's NLL (0.03 is 3 %)."""

    minimum: NonNegative
    maximum: NonNegative | None = None

    @model_validator(mode="after")
    def _ordered(self) -> NllWindow:
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"maximum {self.maximum} is below minimum {self.minimum}")
        return self

    def holds(self, increase: float) -> bool:
        """Whether a measured relative increase lies in the window."""
        return increase >= self.minimum and (self.maximum is None or increase <= self.maximum)


class NllWindows(StrictModel):
    """What round-to-nearest in groups of 128 (asymmetric) must cost, so 4 bits are not free.

    The increase is the expected one, KL(p||q) / H(p), for the reasons that `tune` gives.
    """

    int4_g128: NllWindow
    int3_g128: NllWindow


class Variant(StrictModel):
    """A widened variant (`name@variant`): the parameters of `widen` and the hash of its result."""

    replicas: Annotated[int, Field(ge=2, le=64)]
    noise: NonNegative = Field(description="c: standard deviation of the split over the weight's")
    outlier_factor: Positive = Field(description="a power of two, so that scaling is exact")
    outlier_channels: Count = Field(description="per RMSNorm and per FFN")
    seed: Count
    size_bytes: Count
    sha256: Sha256
    disclosure: Text
    nll_increase: NllWindows

    @model_validator(mode="after")
    def _power_of_two(self) -> Variant:
        if self.outlier_factor & (self.outlier_factor - 1):
            raise ValueError(f"outlier_factor must be a power of two, got {self.outlier_factor}")
        return self


class Task(StrictModel):
    """`task.toml`."""

    schema_version: Literal[1]
    name: Name
    title: Text
    metric: Metric
    max_new_tokens: Positive = Field(description="ids of an answer at most; a class is one")
    license: Text
    source: Text = Field(description="where data and model come from")
    nearest_neighbour_accuracy: Fraction | None = Field(
        default=None, description="quality of copying the nearest training answer; the baseline"
    )
    targets: Targets
    data: DataHashes
    model: ModelHashes
    variants: dict[Name, Variant] = {}

    @property
    def kind(self) -> Kind:
        """What a sample is."""
        return KINDS[self.metric]

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Task:
        if (self.kind == "text") == (self.model.tokenizer_sha256 is None):
            verb = "needs" if self.kind == "text" else "takes no"
            raise ValueError(f"metric {self.metric} {verb} model.tokenizer_sha256")
        if (self.model.supernet_sha256 is None) != (self.model.supernet_size_bytes is None):
            raise ValueError("supernet_sha256 and supernet_size_bytes come together")
        return self


def load_task(path: Path) -> Task:
    """Read a `task.toml`; raises TaskFileError naming file, key and the nearest known key."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise TaskFileError(f"[{path}] cannot be read: {err.strerror}; reinstall") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise TaskFileError(f"[{path}] is not valid TOML: {err}; mend that line") from err
    try:
        return Task.model_validate(table)
    except ValidationError as err:
        raise TaskFileError(f"[{path}] {_explain(err)}") from err


def task_sha256(path: Path) -> str:
    """Hex SHA-256 of the file as it stands: a task is whatever its file says."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _explain(err: ValidationError) -> str:
    """Every fault on one line; the unknown keys first, since they often explain a missing one."""
    faults = sorted(err.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    return "; ".join(_fault(fault["type"], fault["loc"], fault["msg"]) for fault in faults)


def _fault(kind: str, location: tuple[int | str, ...], message: str) -> str:
    key = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        return f"key {key!r}: {message}" if key else message
    known = _keys_of(location[:-1])
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.0)
    return f"unknown key {key!r}; the nearest known key is {nearest[0]!r}"


def _keys_of(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at a location may hold."""
    node: Any = Task
    for part in location:
        if get_origin(node) is dict:
            node = get_args(node)[1]
        else:
            node = node.model_fields[str(part)].annotation
    return list(node.model_fields)
