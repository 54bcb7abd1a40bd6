"""INT4 formats, the native kernels and what they need: what flows in is a weight matrix, what flows
out is y = x W^T computed from 4-bit codes.

Import the rooms, not this package: `formats`, `quantize`, `packing`, `native`, `reference` and
`ceilings` need numpy only; `linear` needs torch.
"""
