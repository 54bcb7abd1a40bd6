"""Where a scenario's bundle is filed: a new folder, one to go on with, or one already finished."""

from __future__ import annotations

from pathlib import Path

from safetensors.numpy import save

from edgebench import layout
from edgebench.bundle import Bundle, BundleWriter, find_finished, find_resumable
from edgebench.codec import write_atomic
from edgebench.prepared import PreparedWorkload
from edgebench.record import Ledger, Record
from edgebench.spec import RunSpec
from edgebench.system import SystemDescription
from edgebench.transform import WITHOUT_DATA
from edgebench.transform.quantized import folded_bytes, tensors_bytes


def existing_record(spec: RunSpec, draft: Record, ledger: Ledger) -> Bundle | None:
    """Return the bundle that a resumed run had already finished, else None."""
    if not spec.resume:
        return None
    return find_finished(spec.out, draft, ledger=ledger, run_id=draft.run_id)


def kept_tensors(spec: RunSpec, draft: Record, prepared: PreparedWorkload) -> Path | None:
    """Keep what no bundle holds and only calibration data make again; None where nothing is.

    A bundle of more than 16 MB of tensors is checked with --tensors and the folder returned.
    """
    ledger = prepared.ledger
    has_recipe = all(step.transform in WITHOUT_DATA for step in ledger.steps)
    if ledger.tensors_file is not None or has_recipe or not ledger.tensors:
        return None
    folder = spec.out.with_name(f"{spec.out.name}-tensors") / draft.run_id / draft.workload.name
    path = folder / layout.TENSORS
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, tensors_bytes(prepared.quantized.tensors))
    return folder


def open_writer(
    spec: RunSpec, draft: Record, prepared: PreparedWorkload, system: SystemDescription
) -> BundleWriter:
    """Go on with an unfinished bundle of the same request when resuming, else begin a new one."""
    if spec.resume:
        writer = find_resumable(spec.out, draft, ledger=prepared.ledger)
        if writer is not None:
            return writer
    writer = BundleWriter.create(spec.out, draft, ledger=prepared.ledger, system=system)
    if prepared.ledger.tensors_file is not None:
        writer.write_tensors(tensors_bytes(prepared.quantized.tensors))
    if prepared.ledger.folded:
        writer.write_tensors(folded_bytes(prepared.quantized.folded), layout.FOLDED)
    kept = prepared.kept_arrays
    if kept:
        writer.write_tensors(save(dict(kept)), layout.OPEN)
    if (coded := prepared.coded_bytes) is not None:
        writer.write_tensors(coded, layout.CODED)
    return writer
