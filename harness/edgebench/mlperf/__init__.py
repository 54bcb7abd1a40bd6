"""A bundle in MLPerf's directory layout, so that MLPerf's tools can read it; no MLPerf result.

Every number is derived from the bundle's rows again; what is not known is 'N/A' or empty, as in
MLPerf's own submissions. Layout, log keys and fields: tools/submission of mlcommons/inference at
commit b66003e1 (2026-08-20). `docs/mlperf.md` says which of its checks such an export passes.
"""

from __future__ import annotations

from edgebench.mlperf.tree import export_mlperf

__all__ = ["export_mlperf"]
