"""Workloads of images: one class per image, by networks of convolutions."""
