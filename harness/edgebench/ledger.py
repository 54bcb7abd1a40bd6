"""The parts of a record and a ledger that follow from a workload and its quantized model."""

from __future__ import annotations

from collections.abc import Mapping

from edgebench import layout
from edgebench.identity import identified
from edgebench.profiles import TENSORS_IN_BUNDLE_BYTES
from edgebench.record import Ledger, OpenModel, OpenNetwork, OpenSubnet, WorkloadIdentity
from edgebench.transform.quantized import QuantizedModel, folded_hashes, int8_hashes
from edgebench_kernels.formats import Int4Tensor, tensor_sha256
from edgebench_workloads.catalog import Workload


def size_bytes(tensors: Mapping[str, Int4Tensor]) -> int:
    """Return the canonical size of a quantized model."""
    return sum(tensor.size_bytes for tensor in tensors.values())


def identity_of(workload: Workload) -> WorkloadIdentity:
    """The workload by its hashes."""
    return WorkloadIdentity(disclosure=workload.disclosure, **identified(workload))


def ledger_of(
    workload: Workload,
    graph: str,
    quantized: QuantizedModel,
    open_model: OpenModel | None = None,
    open_subnet: OpenSubnet | None = None,
    open_network: OpenNetwork | None = None,
) -> Ledger:
    """The ledger of a model; graph: the hash of its architecture."""
    fits = 0 < size_bytes(quantized.tensors) <= TENSORS_IN_BUNDLE_BYTES
    return Ledger(
        reference_sha256=workload.reference_sha256,
        steps=list(quantized.steps),
        tensors={name: tensor_sha256(t) for name, t in quantized.tensors.items()},
        tensors_file=layout.TENSORS if fits else None,
        folded=folded_hashes(quantized.folded),
        convolutions=int8_hashes(quantized.convolutions),
        graph_sha256=graph,
        open_model=open_model,
        open_subnet=open_subnet,
        open_network=open_network,
    )
