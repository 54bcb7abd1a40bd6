"""`perplexity.json`: a model's perplexity with the protocol that gives the number its meaning.

Two perplexities are comparable where their protocols are equal; what a model is, its hashes say.
It is no bundle: nothing of it is ranked. Every published number follows from `window_nats`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from edgebench.record import (
    Count,
    Kernel,
    Name,
    NonNegative,
    Provenance,
    Sha256,
    StrictModel,
    Text,
)

Positive = Annotated[int, Field(ge=1)]


class Protocol(StrictModel):
    """Which tokens were predicted from which, and what is divided by."""

    tokenizer_sha256: Sha256 = Field(description="of tokenizer.json")
    text_sha256: Sha256
    text_size_bytes: Positive
    context: Positive = Field(description="tokens of a window")
    stride: Positive = Field(description="tokens between windows; context: none overlaps")
    windows: Positive
    special_tokens: Count = Field(description="that the tokenizer added to the whole text")
    tokens: Positive = Field(description="predicted: the denominator of perplexity")
    words: Count = Field(description="that begin in a predicted token, parted by white space")
    bytes: Count = Field(description="UTF-8, that predicted tokens stand for")


class ModelIdentity(StrictModel):
    """Which model, by content."""

    name: Text = Field(description="the hub id, or the directory's own name")
    config_sha256: Sha256
    weights_sha256: dict[Name, Sha256] = Field(description="safetensors file -> its hash")


class Calibration(StrictModel):
    """The text that the transforms learned from; it shares no stretch with the scored one."""

    text_sha256: Sha256
    block_tokens: Positive = Field(description="tokens of a block")
    blocks: Positive = Field(description="how many were used, from the text's beginning")


class PerplexityResult(StrictModel):
    """One kernel's likelihood of the text."""

    kernel: Kernel
    executed_path: Text
    transform: Text = Field(
        description="how the weights were made: 'none' for the reference, 'rtn', 'imported from F'"
    )
    window_nats: list[NonNegative] = Field(description="of each window, in order")
    perplexity: NonNegative = Field(description="exp(nats / tokens)")
    word_perplexity: NonNegative | None = Field(default=None, description="exp(nats / words)")
    bits_per_byte: NonNegative | None = Field(default=None, description="nats / (bytes ln 2)")
    over_reference: NonNegative | None = Field(
        default=None, description="perplexity over that of fp16; None on fp16"
    )


class PerplexityRecord(StrictModel):
    """`perplexity.json`."""

    schema_version: Literal[1]
    run_id: Name
    organisation: Name
    system: Name
    executed_on: Text
    model: ModelIdentity
    protocol: Protocol
    calibration: Calibration | None = Field(
        default=None, description="None where no transform learned from data"
    )
    results: list[PerplexityResult]
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What ran, beside what came of it."""

    kernel: Kernel
    executed_path: str
    transform: str


def derive_result(
    protocol: Protocol,
    executed: Executed,
    window_nats: list[float],
    reference: PerplexityResult | None,
) -> PerplexityResult:
    """Every published number of one kernel, from its windows."""
    nats = math.fsum(window_nats)
    perplexity = _exp(nats / protocol.tokens)
    return PerplexityResult(
        kernel=executed.kernel,
        executed_path=executed.executed_path,
        transform=executed.transform,
        window_nats=window_nats,
        perplexity=perplexity,
        word_perplexity=_exp(nats / protocol.words) if protocol.words else None,
        bits_per_byte=nats / (protocol.bytes * math.log(2)) if protocol.bytes else None,
        over_reference=None if reference is None else perplexity / reference.perplexity,
    )


def _exp(exponent: float) -> float:
    """exp, at most the largest float: a broken model's record must stay readable."""
    return math.exp(min(exponent, 709.0))
