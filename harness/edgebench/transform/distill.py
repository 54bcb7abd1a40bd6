"""What a `distill` step asks for: a student that was trained from the reference's logits.

    distill                             the one that the workload ships
    distill:student=FOLDER              one of your own, as workloads' `distill` script writes it
    distill:student=sha256:0123456789ab the same as a record names it: by its tensors, no path

Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgebench.errors import SpecError

PARAMETERS: Mapping[str, type] = {"student": Path}
SHIPPED = "shipped"
STUDENT_SHAPE = (
    "hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim", "is_tied",
)  # fmt: skip
"""What the ledger's step says of a student: fields of OpenShape."""
BY_TENSORS = re.compile(r"sha256:[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillRequest:
    """Which student."""

    student: str = SHIPPED
    """`shipped`, a folder, or `named_by` of its tensors."""

    @property
    def folder(self) -> Path | None:
        """The folder that was typed; None where none was."""
        if self.student == SHIPPED or BY_TENSORS.fullmatch(self.student):
            return None
        return Path(self.student).expanduser()


def read_distill(parameters: Mapping[str, object]) -> DistillRequest:
    """Check the parameters of a step; opens no file."""
    student = parameters.get("student", SHIPPED)
    if not isinstance(student, str):
        raise SpecError(f"[distill] expected student to be a folder, got {student!r}")
    return DistillRequest(student=student)


def named_by(tensors_sha256: str) -> str:
    """How a record names a student that is not shipped."""
    return f"sha256:{tensors_sha256[:12]}"
