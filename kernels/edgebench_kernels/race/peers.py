"""The table of peers: who they are, how they start, and how exact they must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.race import peers_onnx, peers_openvino, peers_torch
from edgebench_kernels.race.cases import Contender


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """start(tensor, threads) -> contender. tolerance: largest relative error (Frobenius)."""

    start: Callable[[Int4Tensor, int], Contender]
    tolerance: float


# Tolerances: 4 times what rounding to the peer's types gives on normal data (int8 activations about
# 1e-2, bf16 weights, sums and outputs about 3e-3 each, fp16 3e-4, fp32 sums 1e-6).
PEERS: dict[str, Peer] = {
    "onnxruntime MatMulNBits level 0": Peer(
        start=partial(peers_onnx.OnnxPeer, accuracy_level=0), tolerance=1e-4
    ),
    "onnxruntime MatMulNBits level 4": Peer(
        start=partial(peers_onnx.OnnxPeer, accuracy_level=4), tolerance=4e-2
    ),
    "openvino u4 dynamic int8": Peer(start=peers_openvino.OpenVinoPeer, tolerance=4e-2),
    "torch int4pack bf16": Peer(start=peers_torch.int4pack, tolerance=2e-2),
    "torch bf16 linear": Peer(start=partial(peers_torch.dense, op="bf16"), tolerance=2e-2),
    "torch fp16 linear": Peer(start=partial(peers_torch.dense, op="fp16"), tolerance=2e-3),
}


def start_peers(
    tensor: Int4Tensor, threads: int, note: Callable[[str], None]
) -> dict[str, Contender]:
    """Start every peer that can; the others are noted with their reason."""
    started: dict[str, Contender] = {}
    for name, peer in PEERS.items():
        try:
            started[name] = peer.start(tensor, threads)
        except Exception as error:  # noqa: BLE001  a third party's failure is its own, and is said
            note(f"peer {name} not raced: {first_line(error)}")
    return started


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
