"""What the values of one tensor say: how many, which are zero, what storing them takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgebench.strict import Count, NonNegative, StrictModel


class TensorFacts(StrictModel):
    """One tensor of the open track's model, as its values say."""

    weights: Count
    nonzero: Count
    pattern: Literal["dense", "unstructured", "2:4", "4:8"] = Field(
        description="detected in the zeros of the stored values, never declared"
    )
    stored_bytes: Count = Field(description="codes, scales and zero points, or fp16 values")
    entropy_bytes: NonNegative = Field(
        description="weights times the empirical entropy of their codes (INT4) or of their 16-bit "
        "values (fp16), and scales and zero points as stored: what coding single symbols can reach"
    )
