"""The published JSON Schemas of our files, written by `python -m edgebench.schemas docs/schema`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from edgebench.audit.record import AuditRecord
from edgebench.codec import write_atomic
from edgebench.perplexity_record import PerplexityRecord
from edgebench.record import CeilingRow, Ledger, NllRow, Record, Row, SampleRow
from edgebench.system import SystemDescription

REGENERATE = "python -m edgebench.schemas docs/schema"

SCHEMAS: Mapping[str, type[BaseModel]] = {
    "record": Record,
    "ledger": Ledger,
    "system": SystemDescription,
    "sample_row": SampleRow,
    "nll_row": NllRow,
    "ceiling_row": CeilingRow,
    "row": Row,
    "perplexity": PerplexityRecord,
    "audit": AuditRecord,
}


def schema_text(name: str) -> str:
    """Return the JSON Schema of one file or line, as it is published."""
    schema = SCHEMAS[name].model_json_schema()
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**draft, **schema}, indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> None:
    """Write every schema into a folder."""
    for name in SCHEMAS:
        write_atomic(folder / f"{name}.schema.json", schema_text(name).encode())


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
