"""INT4 kernels for NVIDIA GPUs: sources, layout and how they are launched."""
