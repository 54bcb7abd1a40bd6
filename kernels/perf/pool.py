"""How long the pool's threads take to begin, by how long they had nothing to do.

    python kernels/perf/pool.py [--threads 2] [--samples 400]

Workers spin for 0.1 ms after a call, then park: a call within that time finds them awake, a later
one has the system wake them. Gaps take turns; the table shows quantiles over all samples.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from edgebench_kernels import native

GAPS_US = (0, 20, 50, 200, 1000, 5000)
WARM_UP = 20


def main() -> None:
    """Parse, measure, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--samples", type=int, default=400)
    arguments = parser.parse_args()
    if arguments.threads:
        native.set_threads(arguments.threads)
    print(f"{native.threads()} threads, load average {os.getloadavg()[0]:.2f}, latency in us")
    print("| idle for | p10 | p50 | p90 | p99 |")
    print("|---|---|---|---|---|")
    for gap_us, latencies_ns in sample(arguments.samples).items():
        quantiles = np.quantile(latencies_ns, (0.1, 0.5, 0.9, 0.99)) / 1000
        print(f"| {gap_us} us | " + " | ".join(f"{value:.1f}" for value in quantiles) + " |")


def sample(count: int) -> dict[int, list[int]]:
    """`count` wake-up latencies, ns, after each gap."""
    found: dict[int, list[int]] = {gap_us: [] for gap_us in GAPS_US}
    for _ in range(WARM_UP):
        native.pool_wakeup_ns()
    for _ in range(count):
        for gap_us, latencies_ns in found.items():
            idle(gap_us * 1000)
            latencies_ns.append(native.pool_wakeup_ns())
    return found


def idle(gap_ns: int) -> None:
    """Let so much time pass without a call; short gaps are spun, for sleep is not that exact."""
    until = time.perf_counter_ns() + gap_ns
    if gap_ns >= 1_000_000:
        time.sleep(gap_ns / 1e9)
    while time.perf_counter_ns() < until:
        pass


if __name__ == "__main__":
    main()
