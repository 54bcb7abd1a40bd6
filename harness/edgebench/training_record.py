"""The part of `ledger.json` that says what training cost."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edgebench.strict import NonNegative, Sha256, StrictModel, Text


class Training(StrictModel):
    """What one fine-tune or one student cost, and where its targets came from."""

    teacher_sha256: Sha256
    examples: Annotated[int, Field(ge=1)]
    steps: Annotated[int, Field(ge=1)]
    cpu_s: Annotated[float, Field(gt=0.0)] = Field(description="of its processes, all threads")
    first_loss: NonNegative = Field(description="nats per answer token, mean of the first tenth")
    last_loss: NonNegative = Field(description="of the last tenth")
    device: Text = Field(default="cpu", description="what multiplied: cpu, or a GPU by its name")
    student_sha256: Sha256 | None = Field(
        default=None, description="model.safetensors of a student that was trained beforehand"
    )
