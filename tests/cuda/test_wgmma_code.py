"""The machine code of warp groups' products: nothing touches registers that a product still uses.

The compiler may move whatever it likes between a product and the wait for it, and a GPU does not
complain. So the main loop is followed here, instruction by instruction, twice round.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from edgebench_kernels.cuda import cubin, sass
from edgebench_kernels.cuda.errors import CudaUnavailable
from edgebench_kernels.cuda.kernels import KERNELS, Variant, build
from edgebench_kernels.cuda.sass import Instruction

pytestmark = [pytest.mark.nvrtc, pytest.mark.slow]

PRODUCTS = ("HGMMA", "IGMMA")
WIDE = {".64": 2, ".128": 4, ".WIDE": 2}
# Operations whose first operand is no register that they write.
NO_RESULT = {"ST", "STS", "STG", "LDGSTS", "RED", "BAR", "BRA", "EXIT", "SYNCS"}
RUNS = [
    pytest.param(name, variant, id=f"{name}-{i}")
    for name in ("w4a16_wgmma", "w4a8_wgmma")
    for i, variant in enumerate(KERNELS[name].variants)
]


@pytest.mark.parametrize(("name", "variant"), RUNS)
def test_registers_of_a_product_are_left_alone_until_it_is_waited_for(
    name: str, variant: Variant
) -> None:
    try:
        sass.disassembler()
    except CudaUnavailable as err:
        pytest.skip(str(err))
    code = cubin.kernel_code(build(name, "sm_90a", dict(variant.macros)).code)[name]
    (instructions,) = sass.disassemble([code], "sm_90a")
    loop = sass.main_loop(instructions)
    assert sum(row.operation in PRODUCTS for row in loop) >= 4
    assert hazards([*loop, *loop]) == []


def test_a_hazard_is_found() -> None:
    product = Instruction("HGMMA.64x16x16.F32", "R24,R8,gdesc[UR4],R24,gsb0", None, False)
    wait = Instruction("WARPGROUP.DEPBAR.LE", "gsb0,0x0", None, False)
    other = {
        "writes A": Instruction("LDS.64", "R10,[R2]", None, False),
        "writes D": Instruction("MOV", "R31,R2", None, False),
        "reads D": Instruction("FADD", "R2,R3,R25", None, False),
    }
    for what, row in other.items():
        assert hazards([product, row, wait]) == [f"{row.opcode} {row.operands}: {what}"]
        assert hazards([product, wait, row]) == []
    assert hazards([product, Instruction("LDS.128", "R12,[R2]", None, False), wait]) == []


def hazards(instructions: Sequence[Instruction]) -> list[str]:
    """What touches A or D of products that are under way."""
    found, groups, opened = [], [], []  # of products: (registers of A, of D)
    for row in instructions:
        if row.operation in PRODUCTS:
            opened.append(operands_of(row))
            if "gsb0" in row.operands:  # the last one of a group
                groups.append(opened)
                opened = []
        elif row.opcode.startswith("WARPGROUP.DEPBAR"):
            pending = int(row.operands.split(",")[1], 16)
            groups = groups[len(groups) - pending :] if pending else []
        else:
            a, d = (
                set().union(*(product[i] for group in (*groups, opened) for product in group))
                for i in range(2)
            )
            written, read = registers_of(row)
            facts = {"writes A": written & a, "writes D": written & d, "reads D": read & d}
            found += [
                f"{row.opcode} {row.operands}: {what}" for what, is_so in facts.items() if is_so
            ]
    return found


def operands_of(product: Instruction) -> tuple[set[int], set[int]]:
    """Registers of A and of D."""
    shape = re.search(r"64x(\d+)x", product.opcode)
    assert shape is not None
    d, a = (int(number) for number in re.findall(r"\bR(\d+)", product.operands)[:2])
    return set(range(a, a + 4)), set(range(d, d + int(shape[1]) // 2))


def registers_of(row: Instruction) -> tuple[set[int], set[int]]:
    """Registers that an instruction writes, and that it reads (of pairs: the first)."""
    first, *others = row.operands.split(",")
    written: set[int] = set()
    match = re.fullmatch(r"R(\d+)", first.removesuffix(".reuse"))
    if match and row.operation not in NO_RESULT:
        wide = max((count for suffix, count in WIDE.items() if suffix in row.opcode), default=1)
        written = set(range(int(match[1]), int(match[1]) + wide))
    else:
        others = [first, *others]
    read = {int(number) for text in others for number in re.findall(r"\bR(\d+)", text)}
    return written, read
