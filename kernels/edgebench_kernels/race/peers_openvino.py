"""OpenVINO as a peer: u4 weights, decompressed inside its matrix product, int8 activations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebench_kernels.formats import Int4Tensor
from edgebench_kernels.race.cases import copies_past_cache


class OpenVinoPeer:
    """A compiled model whose every inference multiplies by each copy once."""

    op = "w4a8"
    ceiling: str | None = "int8"
    operations = 2

    def __init__(self, tensor: Int4Tensor, threads: int) -> None:
        import openvino

        self.group: int | None = tensor.group
        self.weight_bytes: int | None = tensor.size_bytes
        self.products = copies_past_cache(tensor.size_bytes)
        self._constants: list[Any] = []  # the model reads them in place
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(tensor.group),
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        model = self._model(tensor)
        self._request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def _model(self, tensor: Int4Tensor) -> Any:
        """One matrix product per copy; copy c has its rows turned by c, so that all are kept."""
        import openvino
        from openvino import opset13 as ops

        n, k = tensor.shape
        groups = k // tensor.group
        x = ops.parameter([-1, k], openvino.Type.f32)
        results = []
        for copy in range(self.products):
            turned = [
                np.ascontiguousarray(np.roll(part, copy, axis=0))
                for part in (tensor.qweight, tensor.zero, tensor.scale)
            ]
            shape = [n, groups, tensor.group]
            codes = openvino.Tensor(turned[0].reshape(-1), shape, openvino.Type.u4)
            self._constants += [codes, *turned]
            zero = ops.convert(ops.constant(turned[1].reshape(n, groups, 1)), "f16")
            centred = ops.subtract(ops.convert(ops.constant(codes), "f16"), zero)
            scaled = ops.multiply(centred, ops.constant(turned[2].reshape(n, groups, 1)))
            flat = ops.reshape(scaled, np.array([n, k], np.int64), False)
            weight = ops.convert(flat, "f32")
            results.append(ops.result(ops.matmul(x, weight, False, True)))
        return openvino.Model(results, [x])

    def prepare(self, x: NDArray[np.float32]) -> None:
        """Take x [M, K], shared with the model."""
        import openvino

        self._x = np.ascontiguousarray(x)
        self._request.set_input_tensor(openvino.Tensor(self._x, shared_memory=True))

    def call(self) -> None:
        """All copies once."""
        self._request.infer()

    def first_output(self) -> NDArray[np.float32]:
        """The product by copy 0."""
        self._request.infer()
        return np.array(self._request.get_output_tensor(0).data)
