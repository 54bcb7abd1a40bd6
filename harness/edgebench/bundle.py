"""The door to bundles: a stranger's is read safely, our own is written block by block."""

from __future__ import annotations

from edgebench.bundle_reader import Bundle, read_bundle
from edgebench.bundle_writer import BundleWriter, find_finished, find_resumable
from edgebench.layout import find_bundles

__all__ = [
    "Bundle",
    "BundleWriter",
    "find_bundles",
    "find_finished",
    "find_resumable",
    "read_bundle",
]
