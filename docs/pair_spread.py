"""How far a pair's number lies from no change when there is none, by three ways to make one.

    python docs/pair_spread.py [ROUNDS]      # 200 rounds: about 5 minutes

Every round makes each number once for the self-test's cells, of one version against itself: the
fastest block of a process over that of the process after it; the fastest of two that take turns;
the median of their ratios, which is what `bench nightly` takes.
"""

from __future__ import annotations

import math
import statistics
import sys

from edgebench.markdown import header, row
from edgebench.nightly.arms import SELF, find_arm
from edgebench.nightly.pairs import Side, Sweeps, median_log_ratio, sweep_times
from edgebench.nightly.selftest import CELLS
from edgebench.progress import choose_progress

WAYS = (
    "fastest blocks, one process after the other",
    "fastest blocks, two that take turns",
    "median of ratios, two that take turns",
)


def of_fastest(a: Sweeps, b: Sweeps, cell: str) -> float:
    """Return ln of the fastest block of b over that of a."""
    return math.log(min(sweep[cell] for sweep in b) / min(sweep[cell] for sweep in a))


def main(rounds: int) -> None:
    """Print, by way, the median over the cells of the numbers' standard deviation."""
    side, calls = Side(arm=find_arm(SELF)), dict[str, int]()
    cells = [cell.name for cell in CELLS]
    numbers: dict[str, dict[str, list[float]]] = {way: {cell: [] for cell in cells} for way in WAYS}
    with choose_progress(False).stage("rounds") as update:
        for turn in range(rounds):
            update(turn, rounds)
            [alone], [after] = (sweep_times([side], CELLS, calls=calls, threads=1) for _ in "12")
            a, b = sweep_times([side, side], CELLS, calls=calls, threads=1)
            for cell in cells:
                numbers[WAYS[0]][cell].append(of_fastest(alone, after, cell))
                numbers[WAYS[1]][cell].append(of_fastest(a, b, cell))
                numbers[WAYS[2]][cell].append(median_log_ratio(a, b, cell))
    print("\n".join(header(["a pair's number", "standard deviation", "least cell", "worst cell"])))
    for way, by_cell in numbers.items():
        spreads = [statistics.stdev(values) for values in by_cell.values()]
        found = (statistics.median(spreads), min(spreads), max(spreads))
        print(row([way, *(f"{value:.4f}" for value in found)]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
