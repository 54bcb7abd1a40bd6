"""ONNX Runtime as a peer: MatMulNBits, one node per copy of the weights in one small model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.formats import Int4Tensor, pack_codes
from edgebench_kernels.race.cases import copies_past_cache

NODE_DOMAIN = "com.microsoft"
IR_VERSION = 10  # the newest that all runtimes of our range read


class OnnxPeer:
    """A session whose every run multiplies by each copy once."""

    operations = 2

    def __init__(self, tensor: Int4Tensor, threads: int, accuracy_level: int) -> None:
        import onnxruntime

        is_int8 = accuracy_level == 4
        self.op = "w4a8" if is_int8 else "w4a16"
        self.ceiling: str | None = "int8" if is_int8 else "fp32"  # level 0 computes in fp32
        self.group: int | None = tensor.group
        groups = tensor.zero.shape[1]
        self.weight_bytes = (
            tensor.qweight.nbytes + 4 * tensor.scale.size + tensor.shape[0] * -(-groups // 2)
        )
        self.products = copies_past_cache(self.weight_bytes)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model_bytes(tensor, self.products, accuracy_level),
            options,
            providers=["CPUExecutionProvider"],
        )

    def prepare(self, x: NDArray[np.float32]) -> None:
        """Take x [M, K]."""
        self._feed = {"x": x}

    def call(self) -> None:
        """All copies once."""
        self._session.run(None, self._feed)

    def first_output(self) -> NDArray[np.float32]:
        """The product by copy 0, whose rows stand in their own places."""
        y: NDArray[np.float32] = self._session.run(["y0"], self._feed)[0]
        return y


def model_bytes(tensor: Int4Tensor, copies: int, accuracy_level: int) -> bytes:
    """The serialized model; copy c has its rows turned by c, so that no two constants are one."""
    from onnx import TensorProto, helper, numpy_helper

    n, k = tensor.shape
    groups = k // tensor.group
    even = np.zeros((n, groups + groups % 2), np.uint8)
    even[:, :groups] = tensor.zero
    parts: dict[str, NDArray[Any]] = {
        "w": tensor.qweight.reshape(n, groups, tensor.group // 2),
        "s": tensor.scale.astype(np.float32),
        "z": pack_codes(even),
    }
    nodes: list[Any] = []
    constants: list[Any] = []
    outputs: list[Any] = []
    for copy in range(copies):
        for name, values in parts.items():
            turned = np.roll(values, copy, axis=0)
            flat = turned if name == "w" else turned.reshape(-1)
            constants.append(numpy_helper.from_array(flat, f"{name}{copy}"))
        inputs = ["x", *(f"{name}{copy}" for name in parts)]
        settings: dict[str, Any] = {"N": n, "K": k, "bits": 4, "block_size": tensor.group}
        settings["accuracy_level"] = accuracy_level
        nodes.append(
            helper.make_node("MatMulNBits", inputs, [f"y{copy}"], domain=NODE_DOMAIN, **settings)
        )
        outputs.append(helper.make_tensor_value_info(f"y{copy}", TensorProto.FLOAT, ["M", n]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["M", k])
    graph = helper.make_graph(nodes, "race", [x], outputs, constants)
    versions = [helper.make_opsetid("", 20), helper.make_opsetid(NODE_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION)
    serialized: bytes = model.SerializeToString()
    return serialized
