"""The strict model that every file of ours is read by, and the types of its fields."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._-]{0,99}$")]
Text = Annotated[str, StringConstraints(max_length=2000)]
ExecutedPath = Annotated[
    str,
    StringConstraints(
        max_length=2000,
        pattern=r"^[^\x00-\x20\x7f-\xa0]([^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0])?$",
    ),
]
"""What ran, as it names itself: no control characters, no blanks around it."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=0, le=2**64 - 1)]


class StrictModel(BaseModel):
    """What crosses a file boundary: immutable; unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
