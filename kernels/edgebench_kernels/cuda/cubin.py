"""What a cubin holds, read from its ELF sections: its kernels, and which instructions they use.

This is what can be known where no disassembler is installed. SASS instructions of sm_70 and later
are 16 bytes, whose low 9 bits are the operation, whatever its operands (held against nvdisasm in
tests/cuda/test_census.py).
"""

from __future__ import annotations

import struct
from collections import Counter

from edgebench_kernels.cuda.errors import CompileError

INSTRUCTION_BYTES = 16
OPERATIONS = {
    0x03C: "HMMA",  # fp16 tensor cores, a warp at a time
    0x037: "IMMA",  # int8 tensor cores, a warp at a time
    0x1F0: "HGMMA",  # fp16 tensor cores, four warps at a time (wgmma)
    0x1F1: "IGMMA",  # int8 tensor cores, four warps at a time (wgmma)
    0x1AE: "LDGSTS",  # cp.async
    0x11D: "BAR",
}
_OPERATION_MASK = 0x1FF
_CODE = ".text."
_ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")


def kernel_code(cubin: bytes) -> dict[str, bytes]:
    """Each kernel's instructions, by its name; CompileError where the bytes are no cubin."""
    return {
        name.removeprefix(_CODE): code
        for name, code in _sections(cubin).items()
        if name.startswith(_CODE)
    }


def count_operations(code: bytes) -> Counter[str]:
    """How often each operation of OPERATIONS stands in a kernel's code."""
    words = (word for word, _ in struct.iter_unpack("<QQ", code))
    found = (OPERATIONS.get(word & _OPERATION_MASK) for word in words)
    return Counter(name for name in found if name is not None)


def _sections(cubin: bytes) -> dict[str, bytes]:
    """Every section's bytes by its name."""
    try:
        header = _ELF_HEADER.unpack_from(cubin)
        if header[0][:5] != b"\x7fELF\x02":  # 64-bit ELF
            raise ValueError("no ELF file")
        at, entry_bytes, count, names_index = header[6], *header[11:14]
        headers = [_SECTION_HEADER.unpack_from(cubin, at + i * entry_bytes) for i in range(count)]
        names = _bytes_of(cubin, headers[names_index])
        return {
            names[row[0] : names.index(b"\0", row[0])].decode(): _bytes_of(cubin, row)
            for row in headers
        }
    except (struct.error, ValueError, IndexError) as err:
        raise CompileError(f"[cuda] the compiler's output is no cubin: {err}") from err


def _bytes_of(cubin: bytes, header: tuple[int, ...]) -> bytes:
    offset, size = header[4], header[5]
    return cubin[offset : offset + size]
