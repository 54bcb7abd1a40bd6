"""Stages of `gpu_check.py` that need workloads and the harness, which kernels do not know."""
