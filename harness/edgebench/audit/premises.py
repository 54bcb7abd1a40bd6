"""The premises of an audit: the bundle's very tensors, and kernels set up as its run had them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgebench import layout
from edgebench.audit.filed_tensors import read_folded, read_tensors
from edgebench.audit.image_premises import filed_images
from edgebench.bundle import Bundle
from edgebench.errors import RuleViolation, RunFailed, harness_error
from edgebench.prepare import prepare
from edgebench.prepared import PreparedWorkload
from edgebench.prepared_text import PreparedText, require_text
from edgebench.progress import Progress
from edgebench.record import Kernel, Ledger
from edgebench.system import SystemDescription, usable_cores
from edgebench.target import Target
from edgebench.transform import parse_transform, students
from edgebench.transform.quantized import Folded, QuantizedModel, folded_hashes
from edgebench_kernels.formats import tensor_sha256
from edgebench_workloads.catalog import WORKLOADS
from edgebench_workloads.errors import WorkloadError

OWN: tuple[Kernel, ...] = ("int4", "open")  # what stands beside the reference and is built here
WITH_PERTURBED = 1.6  # of a run's memory: the perturbed engine holds its kernel's weights again


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the auditor has of a bundle beside it."""

    tensors: Path | None = None
    """The folder of tensors that are too large for the bundle."""
    student: Path | None = None
    """The folder of a student that the record names by its tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """What is audited, and how this machine differs from the one that filed it."""

    bundle: Bundle
    prepared: PreparedWorkload
    differences: tuple[str, ...]
    """What of the system is not the bundle's; empty on the same one."""
    threads: int


def premises(
    bundle: Bundle,
    system: SystemDescription,
    target: Target,
    given: Given,
    progress: Progress,
) -> Premises:
    """Verify the weights, take the bundle's tensors and set the kernels up as its run had them.

    Raises RuleViolation where regenerated tensors are not the ledger's, RunFailed where memory does
    not suffice, DeviceUnavailable.
    """
    record = bundle.record
    differences = differing(bundle.system, system)
    threads = min(record.host.threads, usable_cores())
    tuning = None if differences else record.host.kernel_tuning
    target.prepare(threads, record.host.affinity if not differences else None, tuning)
    _require_memory(record.workload.name, target, system)
    if WORKLOADS[record.workload.name].kind == "images":
        prepared: PreparedWorkload = filed_images(bundle, given.tensors, progress)
    else:
        prepared = _prepare(bundle, given, progress)
    return Premises(bundle=bundle, prepared=prepared, differences=differences, threads=threads)


def differing(claimed: SystemDescription, here: SystemDescription) -> tuple[str, ...]:
    """Say what makes times of two systems incomparable; empty where nothing does."""
    compared = (
        ("system", claimed.name, here.name),
        ("CPU", claimed.cpu.model, here.cpu.model),
        ("instruction set", claimed.cpu.isa, here.cpu.isa),
        ("usable cores", claimed.cpu.cores_usable, here.cpu.cores_usable),
        ("GPUs", [gpu.name for gpu in claimed.gpus], [gpu.name for gpu in here.gpus]),
    )
    return tuple(
        f"{what} {now} here, {was} in the bundle" for what, was, now in compared if was != now
    )


def incomparable_outputs(
    bundle: Bundle, kernel: Kernel, here: SystemDescription, executed_path: str
) -> str | None:
    """Say why outputs here may rightly differ from the bundle's by rounding; None if not."""
    claimed = next(one.executed_path for one in bundle.record.results if one.kernel == kernel)
    if bundle.system.cpu.isa != here.cpu.isa:
        return f"another instruction set: {here.cpu.isa} here, {bundle.system.cpu.isa} there"
    if claimed != executed_path:
        return f"another path: {executed_path} here, {claimed} there"
    return None


def _require_memory(name: str, target: Target, system: SystemDescription) -> None:
    try:
        size_bytes = int(WITH_PERTURBED * WORKLOADS[name].reference_size_bytes)
        shortage = target.memory_shortage(size_bytes, system)
    except WorkloadError as err:
        raise harness_error(err) from err
    if shortage is not None:
        raise RunFailed(f"[audit] expected memory for {name}: {shortage}")


def _prepare(bundle: Bundle, given: Given, progress: Progress) -> PreparedText:
    """Take tensors from the bundle, else --tensors, else the recipe; hold them to the ledger."""
    record, ledger, tensors = bundle.record, bundle.ledger, given.tensors
    named = [one.transform for one in record.results if one.kernel in OWN]
    transform = None  # of an external engine nothing is quantized here
    if named or ledger.tensors:
        transform = students.given(parse_transform(named[0] if named else "rtn"), given.student)
    path, folded = bundle.tensors_path, bundle.folded_path
    if path is None and tensors is not None:
        path, folded = tensors / layout.TENSORS, folded or _existing(tensors / layout.FOLDED)
    quantized = None
    if path is not None:
        quantized = QuantizedModel(
            tensors=read_tensors(path, sorted(ledger.tensors)),
            steps=tuple(ledger.steps),
            folded=Folded() if folded is None else read_folded(folded),
        )
    made = prepare(record.workload.name, transform, progress, quantized)
    prepared = require_text(made, "audit")
    _require_open(ledger, prepared.ledger)
    found = {name: tensor_sha256(one) for name, one in prepared.quantized.tensors.items()}
    found_folded = folded_hashes(prepared.quantized.folded)
    if (found, found_folded) != (ledger.tensors, ledger.folded):
        hashes, claimed = {**found, **found_folded}, {**ledger.tensors, **ledger.folded}
        unlike = sorted(k for k in hashes | claimed if hashes.get(k) != claimed.get(k))
        source = "the recipe" if path is None else str(path)
        raise RuleViolation(
            f"[audit] expected {source} to give the ledger's tensors, got {len(unlike)} others, "
            f"such as {unlike[0]}; give the submitted ones with --tensors DIR"
        )
    return prepared


def _require_open(claimed: Ledger, here: Ledger) -> None:
    """RuleViolation unless the open model made here is the ledger's, tensor by tensor."""
    sides = [{} if one.open_model is None else one.open_model.kept for one in (claimed, here)]
    unlike = sorted(
        name for name in sides[0] | sides[1] if sides[0].get(name) != sides[1].get(name)
    )
    if unlike:
        raise RuleViolation(
            f"[audit] expected the ledger's steps to make its open model here, got {len(unlike)} "
            f"other tensors, such as {unlike[0]}; sums of another machine may choose other weights"
        )


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
