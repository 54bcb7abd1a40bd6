"""4-bit checkpoints written word by word from the formats' descriptions, in plain loops.

Nothing here is shared with the importer: Python integers, one nibble at a time.
"""

from __future__ import annotations

import numpy as np

AWQ_OUTPUTS = [0, 2, 4, 6, 1, 3, 5, 7]  # the output that nibble 0, 1, .. of a word holds


def signed(word: int) -> int:
    """A 32-bit pattern as the int32 that files hold."""
    word %= 2**32
    return word - 2**32 if word >= 2**31 else word


def word_of(nibbles) -> int:
    """Eight nibbles, the lowest first."""
    word = 0
    for place, nibble in enumerate(nibbles):
        assert 0 <= nibble <= 15
        word += int(nibble) * 16**place
    return word


def along_columns(matrix, order=range(8), add: int = 0):
    """[R, C] -> int32 [R, C/8]: nibble i of word c is column 8 c + order[i]."""
    return np.array(
        [
            [
                signed(word_of(row[8 * c + place] for place in order) + add)
                for c in range(len(row) // 8)
            ]
            for row in matrix
        ],
        dtype=np.int32,
    )


def along_rows(matrix):
    """[R, C] -> int32 [R/8, C]: nibble j of word r is row 8 r + j."""
    return along_columns(np.asarray(matrix).T).T.copy()


def awq_gemm(codes, scale, zero, group):
    """codes [N, K], scale and zero [N, K/G] -> the parts of WQLinear_GEMM."""
    return {
        "qweight": along_columns(codes.T, AWQ_OUTPUTS),
        "qzeros": along_columns(zero.T, AWQ_OUTPUTS),
        "scales": scale.T.copy(),
    }


def gptq_v2(codes, scale, zero, group):
    """The parts of a GPTQ linear, zero points as they are."""
    return {
        "qweight": along_rows(codes.T),
        "qzeros": along_columns(zero.T),
        "scales": scale.T.copy(),
        "g_idx": np.array([k // group for k in range(codes.shape[1])], dtype=np.int32),
    }


def gptq_v1(codes, scale, zero, group):
    """The same, each word of zero points less 1 in every nibble, as one subtraction."""
    return {
        **gptq_v2(codes, scale, zero, group),
        "qzeros": along_columns(zero.T, add=-0x11111111),
    }


def compressed_tensors(codes, scale, zero, group):
    """The parts of a pack-quantized linear; zero points only where one is not 8."""
    n, k = codes.shape
    wide = np.zeros((n, -(-k // 8) * 8), dtype=int)
    wide[:, :k] = codes
    parts = {
        "weight_packed": along_columns(wide),
        "weight_scale": scale.copy(),
        "weight_shape": np.array([n, k], dtype=np.int64),
    }
    if (zero != 8).any():
        tall = np.zeros((-(-n // 8) * 8, zero.shape[1]), dtype=int)
        tall[:n] = zero
        parts["weight_zero_point"] = along_rows(tall)
    return parts


def canonical(codes, scale, zero, group):
    """EdgeBench's own: two codes a byte, the even input low."""
    pairs = [[row[k] + 16 * row[k + 1] for k in range(0, len(row), 2)] for row in codes.tolist()]
    return {"qweight": np.array(pairs, dtype=np.uint8), "scale": scale.copy(), "zero": zero.copy()}


PACKERS = {
    "canonical": canonical,
    "awq-gemm": awq_gemm,
    "gptq-v1": gptq_v1,
    "gptq-v2": gptq_v2,
    "compressed-tensors": compressed_tensors,
}


def quantization_config(name: str, group: int, *, symmetric: bool) -> dict:
    """What each library writes into config.json."""
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": symmetric,
        "strategy": "group",
        "group_size": group,
        "actorder": None,
        "dynamic": False,
    }
    configs = {
        "canonical": {"quant_method": "edgebench", "bits": 4},
        "awq-gemm": {
            "quant_method": "awq",
            "bits": 4,
            "group_size": group,
            "zero_point": not symmetric,
            "version": "gemm",
        },
        "gptq-v1": {
            "quant_method": "gptq",
            "checkpoint_format": "gptq",
            "bits": 4,
            "group_size": group,
            "sym": symmetric,
            "desc_act": False,
        },
        "compressed-tensors": {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": {
                "group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}
            },
            "ignore": ["lm_head"],
            "kv_cache_scheme": None,
        },
    }
    configs["gptq-v2"] = {**configs["gptq-v1"], "checkpoint_format": "gptq_v2"}
    return configs[name]
