"""`Int4Linear`: y = x W^T for torch, on packed INT4 weights that both paths share."""

from __future__ import annotations

import torch

from edgebench_kernels import native
from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.packing import LINEAR_DOORS, PackedInt4

PATHS = tuple(LINEAR_DOORS)


class Int4Linear(torch.nn.Module):
    """A linear layer without bias over INT4 weights [N, K].

    `path` may be set between calls: "w4a16" keeps activations at 16-bit fixed point (relative error
    about 5e-5), "w4a8" at dynamic int8 per token and group (about 1e-2) and is the faster one for
    many tokens; "w4a8-token" is w4a8 with one scale for each token.
    Inference only: no gradient flows.
    """

    def __init__(self, packed: PackedInt4, path: str = "w4a16") -> None:
        super().__init__()
        self.out_features, self.in_features = packed.shape
        self.packed = packed
        library = native.library()
        self._doors = {name: getattr(library, door) for name, door in LINEAR_DOORS.items()}
        self.path = path

    @classmethod
    def from_tensor(cls, tensor: Int4Tensor, path: str = "w4a16") -> Int4Linear:
        """Pack the canonical tensor and wrap it; the tensor is not kept."""
        return cls(PackedInt4(tensor), path)

    @property
    def path(self) -> str:
        """The arithmetic of the next forward, one of PATHS."""
        return self._path

    @path.setter
    def path(self, path: str) -> None:
        if path not in PATHS:
            raise ValueError(f"[Int4Linear] path must be one of {', '.join(PATHS)}, got '{path}'")
        self._path = path
        self._door = self._doors[path]

    @property
    def weight_bytes(self) -> int:
        """Packed bytes that one pass over the weights reads: codes, scales, zeros and padding."""
        return self.packed.size_bytes

    def extra_repr(self) -> str:
        """What torch prints inside Int4Linear(...)."""
        return f"{self.in_features}, {self.out_features}, group={self.packed.group}, {self.path}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 [..., K] -> float32 [..., N]; other float types are widened first."""
        shape = x.shape
        if not x.is_floating_point():
            raise TypeError(f"[{self._path}] x must be of a float type, got {x.dtype}")
        if not shape or shape[-1] != self.in_features or x.device.type != "cpu":
            raise ValueError(
                f"[{self._path}] x must be a CPU tensor [..., K={self.in_features}], "
                f"got {list(shape)} on {x.device}"
            )
        if x.dtype is not torch.float32:
            x = x.to(torch.float32)
        if not x.is_contiguous():
            x = x.contiguous()
        y = torch.empty(*shape[:-1], self.out_features)
        m = x.numel() // self.in_features
        if m:
            error = self._door(self.packed.handle, m, x.data_ptr(), y.data_ptr())
            if error:
                native.check(
                    error, self._path, f"M={m}, weights [{self.out_features}, {shape[-1]}]"
                )
        return y
