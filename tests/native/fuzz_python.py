"""Fuzzes what Python puts before the C doors: Int4Tensor, PackedInt4, linear, native's settings.

    python tests/native/fuzz_python.py SECONDS [SEED]

The property: ValueError or TypeError with the place in brackets, or the answer of the reference.
Each case is made from one seed; a failure names it, and `fuzz_python.py 0 SEED` makes it again.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from edgebench_kernels import native, reference
from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.packing import LINEAR_DOORS, PackedInt4, linear

GROUPS = (32, 64, 128)
WRONG_GROUPS = (0, -32, 16, 48, 256, 2**62, 2**70, -1, 32.0, "32", None, np.int64(32))
WRONG_DTYPES = ("int8", "uint16", "float64", ">f2", "complex64", "bool", "object", "U1")
STRANGE = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 1e30)
WRONG_COUNTS = (0, -1, 257, 2**31, 2**70, -(2**40))


def disguise(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """The same values in other memory: strided, transposed, misaligned or read-only."""
    kind = rng.integers(6)
    if kind == 0:
        return np.repeat(array, 2, axis=1)[:, ::2]
    if kind == 1:
        return np.asfortranarray(array)
    if kind == 2:
        return array[::-1].copy()[::-1]
    if kind == 3:
        memory = np.zeros(array.nbytes + 1, dtype=np.uint8)
        moved = memory[1:].view(array.dtype).reshape(array.shape)
        moved[...] = array
        return moved
    if kind == 4:
        array = array.copy()
        array.flags.writeable = False
    return array


def spoil(rng: np.random.Generator, array: np.ndarray) -> Any:
    """Something that is not what was asked for."""
    kind = rng.integers(6)
    if kind == 0:
        return array.astype(str(rng.choice(WRONG_DTYPES)))
    if kind == 1:
        return array[:, : array.shape[1] - 1]
    if kind == 2:
        return array[:0]
    if kind == 3:
        return array.reshape(-1)
    if kind == 4:
        return array[None]
    return array.tolist()


def make_fields(rng: np.random.Generator) -> dict[str, Any]:
    n = int(rng.integers(1, 140))
    group = int(rng.choice(GROUPS))
    k = group * int(rng.integers(1, 5))
    if rng.integers(3) == 0:
        k = group = 2 * int(rng.integers(1, 150))
    scale = (rng.standard_normal((n, k // group)) * 0.1).astype(np.float16)
    return {
        "qweight": rng.integers(0, 256, (n, k // 2), dtype=np.uint8),
        "scale": scale,
        "zero": rng.integers(0, 16, (n, k // group), dtype=np.uint8),
        "group": group,
    }


def break_fields(rng: np.random.Generator, fields: dict[str, Any]) -> None:
    """One fault that must be refused, or a group that may happen to be right."""
    kind = rng.integers(4)
    if kind == 0:
        name = str(rng.choice(("qweight", "scale", "zero")))
        fields[name] = spoil(rng, fields[name])
    elif kind == 1:
        fields["group"] = WRONG_GROUPS[rng.integers(len(WRONG_GROUPS))]
    elif kind == 2:
        at = tuple(rng.integers(fields["scale"].shape))
        fields["scale"][at] = rng.choice((np.nan, np.inf, -np.inf))
    else:
        at = tuple(rng.integers(fields["zero"].shape))
        fields["zero"][at] = rng.integers(16, 256)


def check_linear(rng: np.random.Generator, tensor: Int4Tensor, packed: PackedInt4) -> None:
    m = int(rng.integers(0, 40))
    path = str(rng.choice(tuple(LINEAR_DOORS)))
    x = rng.standard_normal((m, tensor.shape[1])).astype(np.float32)
    if m and rng.integers(6) == 0:
        x[rng.integers(m), rng.integers(x.shape[1])] = STRANGE[rng.integers(len(STRANGE))]
    if m and rng.integers(5) == 0:
        wrong = spoil(rng, x)
        if not (isinstance(wrong, np.ndarray) and len(wrong) == 0):  # M = 0 is no fault
            expect_refusal(lambda: linear(packed, wrong, path))
        expect_refusal(lambda: linear(packed, x, "w4a4"))
        return
    before = x.copy()
    y = linear(packed, disguise(rng, x), path)
    np.testing.assert_array_equal(x, before)
    assert y.dtype == np.float32
    assert y.shape == (m, tensor.shape[0])
    is_finite = np.isfinite(x).all(axis=1)
    assert np.isnan(y[~is_finite]).all(), "a token with NaN or infinity must give NaN"
    kept = x[is_finite]
    if kept.size:
        exact = reference.linear_exact(tensor, kept)
        size = np.abs(kept).astype(np.float64) @ np.abs(weights_of(tensor)).T
        bound = reference.activation_error_bound(tensor, kept, path) + size * 2.0**-18 + 1e-30
        assert (np.abs(y[is_finite] - exact) <= bound).all(), "wrong answer"


def weights_of(tensor: Int4Tensor) -> np.ndarray:
    return reference.dequantize(tensor).astype(np.float64)


def expect_refusal(call: Any) -> None:
    """The call must be refused in our words: an accepted fault is a silent wrong answer."""
    try:
        call()
    except (ValueError, TypeError) as err:
        if not str(err).startswith("["):
            raise AssertionError(f"{type(err).__name__} without a place: {err}") from err
        return
    raise AssertionError("a wrong argument was accepted")


def check_weights(rng: np.random.Generator) -> None:
    fields = make_fields(rng)
    is_broken = rng.integers(3) == 0
    if is_broken:
        break_fields(rng, fields)
    else:
        for name in ("qweight", "scale", "zero"):
            fields[name] = disguise(rng, fields[name])

    def make() -> tuple[Int4Tensor, PackedInt4]:
        tensor = Int4Tensor(**fields)
        return tensor, PackedInt4(tensor)

    # np.int64(32), or a wrong group that happens to equal K, is no fault.
    group = fields["group"]
    if is_broken and not (isinstance(group, (int, np.integer)) and is_right(fields)):
        expect_refusal(make)
        return
    tensor, packed = make()
    np.testing.assert_array_equal(packed.packed_bytes(), reference.packed_layout(tensor))
    check_linear(rng, tensor, packed)


def is_right(fields: dict[str, Any]) -> bool:
    """Whether the fields obey the format's words, said once more in plain terms."""
    q, scale, zero, group = (fields[name] for name in ("qweight", "scale", "zero", "group"))
    wanted = ((q, "uint8"), (scale, "float16"), (zero, "uint8"))
    for array, dtype in wanted:
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 2:
            return False
    n, k = q.shape[0], 2 * q.shape[1]
    if n < 1 or k < 2 or not (group in GROUPS or group == k) or k % group:
        return False
    shape = (n, k // group)
    return bool(
        scale.shape == shape
        and zero.shape == shape
        and np.isfinite(scale).all()
        and zero.max() < 16
    )


def check_settings(rng: np.random.Generator) -> None:
    wrong = WRONG_COUNTS[rng.integers(len(WRONG_COUNTS))]
    expect_refusal(lambda: native.set_threads(wrong))
    expect_refusal(lambda: native.force_isa("avx1024"))
    expect_refusal(lambda: native.set_prefetch_bytes(-1 - abs(wrong)))
    native.set_threads(int(rng.integers(1, 4)))
    native.force_isa(str(rng.choice(native.supported_isas())))


def main(seconds: float, seed: int) -> None:
    """Cases until the time is over; a failure says its seed."""
    end = time.monotonic() + seconds
    first = seed
    while True:
        rng = np.random.default_rng(seed)
        try:
            if seed % 16 == 0:
                check_settings(rng)
            check_weights(rng)
        except BaseException:
            print(f"fuzz: the case of seed {seed}, on {native.isa()}", file=sys.stderr)
            raise
        seed += 1
        if time.monotonic() >= end:
            break
    print(f"fuzz: {seed - first} cases, no defect")


if __name__ == "__main__":
    np.seterr(all="ignore")
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
