"""What reading a 4-bit checkpoint takes of memory, from the sizes of its stored tensors alone.

Files are mapped, so what is held is the canonical tensors, for another format its own tensors, and
what packing the largest linear goes through. The two factors were measured by tracemalloc, which
counts numpy's bytes: the most that any format of the table takes.
"""

from __future__ import annotations

from pathlib import Path

from edgebench_kernels.checkpoints import detect
from edgebench_kernels.checkpoints.canonical_format import CANONICAL
from edgebench_kernels.checkpoints.files import read_tensors
from edgebench_kernels.checkpoints.layout import Format
from edgebench_kernels.checkpoints.quantization import quantization_of

DECODING = 11  # of the largest linear's packed words: codes of a byte, shifts of four
ENCODING = 20  # the same, and the words before they are joined


def converting_bytes(directory: Path, to: Format = CANONICAL) -> int:
    """An upper bound of the memory that `read_int4`, and `write_int4` in a format, take.

    Raises ValueError as `read_int4` does; no weight is read.
    """
    mark = "." + detect(quantization_of(directory) or {}).required[0]
    sizes = {name: tensor.nbytes for name, tensor in read_tensors(directory).items()}
    packed = {name.removesuffix(mark): size for name, size in sizes.items() if name.endswith(mark)}
    codes = sum(size for name, size in sizes.items() if name.rpartition(".")[0] in packed)
    kept = max((s for name, s in sizes.items() if name.rpartition(".")[0] not in packed), default=0)
    largest = max(packed.values(), default=0)
    if to is CANONICAL:
        return codes + max(DECODING * largest, kept)
    return 2 * codes + max(ENCODING * largest, kept)
