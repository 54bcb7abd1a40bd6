"""Checks and times the GPU kernels on this machine: one command, under nine minutes.

    python kernels/perf/gpu_check.py [--out out/gpu-check] [--seconds 510] [--stages NAMES]

From a checkout, without installing; needs torch for CUDA, cuda-core and NVRTC, and says what else
is missing. Kernels are held against float64, then the linears of a Llama-3-8B layer are timed
beside cuBLAS and torch's INT4, then models decode, then `bench run` leaves a bundle. The folder
gets summary.json, summary.md and bundles.tar, and has what there is after every stage. Exit code: 0
where nothing failed, 1 where something did or was cut short, 3 without a GPU.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from edgebench_kernels.cuda.check import command


def main() -> int:
    """Parse, check, say what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/gpu-check"))
    parser.add_argument("--seconds", type=float, default=510.0, help="for all stages together")
    parser.add_argument("--stages", help="names with commas; default: all")
    asked = parser.parse_args()
    try:
        return command.run(asked.out, asked.seconds, asked.stages)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
