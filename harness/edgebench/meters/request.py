"""What `--meter` asks for: `auto`, names with commas, or `csv:FILE` beside or among them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from edgebench.errors import SpecError, unknown_name

AUTO = "auto"
NONE = "none"
CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterRequest:
    """Which meters to probe."""

    names: tuple[str, ...] | None = None
    """None: every one that there is; empty: no meter at all."""
    csv: Path | None = None
    """The file of an external meter, which is then the one that is reported."""

    def __str__(self) -> str:
        """As it may be typed again; a folder of this machine stays out of records."""
        words = list(self.names) if self.names is not None else [AUTO]
        if self.csv is not None:
            words = [word for word in words if word != AUTO] + [f"{CSV}:{self.csv.name}"]
        return ",".join(words) or NONE


EVERY = MeterRequest()


def parse_meter(text: str, known: Collection[str]) -> MeterRequest:
    """Read `--meter`; SpecError for an unknown name, an empty file name, or `none` with others."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    files = [word.partition(":")[2] for word in words if word.startswith(f"{CSV}:")]
    names = [word for word in words if not word.startswith(f"{CSV}:")]
    if not words or len(files) > 1 or "" in files:
        raise SpecError(
            f"[--meter] expected {AUTO}, {NONE}, names with commas or one {CSV}:FILE, got {text!r}"
        )
    for name in names:
        if name not in (*known, AUTO, NONE):
            raise unknown_name("--meter", "meter", name, (*known, AUTO, NONE, f"{CSV}:FILE"))
    if len(words) > 1 and NONE in names:
        raise SpecError(f"[--meter] expected {NONE} alone, got {text!r}")
    csv = Path(files[0]).expanduser() if files else None
    if names == [NONE]:
        return MeterRequest(names=())
    if not names or AUTO in names:
        return MeterRequest(csv=csv)
    return MeterRequest(names=tuple(dict.fromkeys(names)), csv=csv)
