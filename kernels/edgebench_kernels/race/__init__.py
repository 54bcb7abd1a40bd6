"""The race behind `bench kernels`: our INT4 linears and other people's, checked, then timed.

Import the rooms, not this package. Torch, onnxruntime and openvino are imported only by the peers
that need them, when they start.
"""
