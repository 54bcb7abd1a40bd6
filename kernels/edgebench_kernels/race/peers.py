"""The table of peers: who they are, how they start, and how exact they must be."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.race import peers_onnx, peers_openvino, peers_torch
from edgebench_kernels.race.cases import Contender


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """start(tensor, threads) -> contender. tolerance: largest relative error (Frobenius)."""

    op: str
    start: Callable[[Int4Tensor, int], Contender]
    tolerance: float


# Tolerances: 4 times what rounding to the peer's types gives on normal data (int8 activations about
# 1e-2, bf16 weights, sums and outputs about 3e-3 each, fp16 3e-4, fp32 sums 1e-6).
PEERS: dict[str, Peer] = {
    "onnxruntime-0": Peer(
        op="w4a16", start=partial(peers_onnx.OnnxPeer, accuracy_level=0), tolerance=1e-4
    ),
    "onnxruntime-4": Peer(
        op="w4a8", start=partial(peers_onnx.OnnxPeer, accuracy_level=4), tolerance=4e-2
    ),
    "openvino": Peer(op="w4a8", start=peers_openvino.OpenVinoPeer, tolerance=4e-2),
    "torch-int4pack": Peer(op="w4a16", start=peers_torch.int4pack, tolerance=2e-2),
    "torch-bf16": Peer(op="bf16", start=partial(peers_torch.dense, op="bf16"), tolerance=2e-2),
    "torch-fp16": Peer(op="fp16", start=partial(peers_torch.dense, op="fp16"), tolerance=2e-3),
}
"""onnxruntime-L: MatMulNBits at accuracy_level L. openvino: u4, dynamic int8 activations."""


def start_peers(
    tensor: Int4Tensor, threads: int, names: Iterable[str], note: Callable[[str], None]
) -> dict[str, Contender]:
    """Start every named peer that can; the others are noted with their reason."""
    started: dict[str, Contender] = {}
    for name in names:
        try:
            started[name] = PEERS[name].start(tensor, threads)
        except Exception as error:  # noqa: BLE001  a third party's failure is its own, and is said
            note(f"peer {name} not raced: {first_line(error)}")
    return started


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
