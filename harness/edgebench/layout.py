"""The layout of a bundle on disk: its file names, their size limits, and where it is filed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgebench.profiles import TENSORS_IN_BUNDLE_BYTES
from edgebench.record import Record

RECORD = "record.json"
SAMPLES = "samples.jsonl"
NLL = "nll.jsonl"
CEILINGS = "ceilings.jsonl"
SYSTEM = "system.json"
LEDGER = "ledger.json"
POWER = "power.csv"
TENSORS = "int4.safetensors"
FOLDED = "folded.safetensors"
OPEN = "open.safetensors"
CODED = "coded.bin"
CHECKSUMS = "SHA256SUMS"
PROGRESS = "progress.json"  # exists only while a run is unfinished

_KIB, _MIB = 1 << 10, 1 << 20

# Official offline at 500 samples/s and 600 s is 600,000 rows of 250 bytes, both kernels: 150 MB.
SIZE_LIMITS: Mapping[str, int] = {
    RECORD: _MIB,
    SAMPLES: 512 * _MIB,
    NLL: 64 * _MIB,
    CEILINGS: 16 * _MIB,
    SYSTEM: _MIB,
    LEDGER: 4 * _MIB,
    POWER: 256 * _MIB,
    TENSORS: TENSORS_IN_BUNDLE_BYTES + 256 * _KIB,  # and the header that names them
    OPEN: TENSORS_IN_BUNDLE_BYTES + 256 * _KIB,
    CODED: 16 * _MIB,
    FOLDED: 16 * _MIB,  # 4 MB for a model of 8B parameters
    CHECKSUMS: 64 * _KIB,
}
OPTIONAL = frozenset({TENSORS, FOLDED, OPEN, CODED})
MAX_TOTAL_BYTES = 768 * _MIB
MAX_ROWS = 2_000_000  # of one .jsonl file

DEPTH = 6  # division, organisation, system, workload, scenario, run id
_MAX_FOLDERS = 100_000  # of a submission tree


def parts(record: Record) -> tuple[str, str, str, str, str, str]:
    """Return the folder names under the root of the tree, as the record's fields give them."""
    return (
        record.track,
        record.organisation,
        record.system,
        record.workload.name,
        record.scenario,
        record.run_id,
    )


def find_bundles(root: Path) -> Iterator[Path]:
    """Yield every folder with a record at most DEPTH below root, in order of their names.

    Links are not followed and hidden folders are passed over; a bundle itself is also a root.
    """
    pending, seen = [(root, 0)], 0
    while pending:
        folder, depth = pending.pop()
        seen += 1
        if seen > _MAX_FOLDERS:
            return
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name, reverse=True)
        if any(entry.name == RECORD for entry in entries):
            yield folder
        elif depth < DEPTH:
            pending += [
                (Path(entry.path), depth + 1)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            ]
