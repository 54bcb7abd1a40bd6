"""The files of tensors hold what the ledger names, as our writer writes it, and nothing beside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from edgebench import layout
from edgebench.checker.subject import Subject
from edgebench.checker.tensors import PARTS
from edgebench.findings import Finding, finding

SHOWN = 3
PADDING = 8  # safetensors fills its header with blanks to a multiple of that
LENGTH_BYTES = 8
LARGEST_HEADER_BYTES = 8 << 20
METADATA = "__metadata__"


def check_filed(subject: Subject) -> Iterator[Finding]:
    """W-06: no tensor, metadata or filling that the ledger does not account for."""
    bundle, ledger = subject.bundle, subject.bundle.ledger
    tensors = bundle.tensors_path
    if tensors is None and subject.tensors_folder is not None and ledger.tensors:
        tensors = subject.tensors_folder / layout.TENSORS
    quantized = {f"{name}.{part}" for name in ledger.tensors for part in PARTS}
    models = (ledger.open_model, ledger.open_subnet, ledger.open_network)
    kept = {name for model in models if model is not None for name in model.kept}
    for path, named in (
        (tensors, quantized), (bundle.folded_path, set(ledger.folded)), (bundle.open_path, kept),
    ):  # fmt: skip
        if path is not None and path.is_file():
            for came in _beside(path, named):
                yield finding("W-06", f"only what the ledger names in {path.name}", came)


def _beside(path: Path, named: set[str]) -> Iterator[str]:
    """What a file holds beside its tensors; one that cannot be read is another check's."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(LENGTH_BYTES), "little")
            if size > LARGEST_HEADER_BYTES:
                yield f"a header of {size} bytes"
                return
            text = file.read(size).decode()
        header = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return
    if not isinstance(header, dict):
        return
    if METADATA in header:
        yield f"{METADATA} of {len(json.dumps(header[METADATA]))} bytes"
    if extra := sorted(header.keys() - named - {METADATA}):
        more = f" and {len(extra) - SHOWN} more" if len(extra) > SHOWN else ""
        yield ", ".join(extra[:SHOWN]) + more
    needed = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False))
    if (filling := len(text) - needed) >= PADDING:
        yield f"a header with {filling} characters that say nothing"
