"""Whether the loop's cost per point stays flat as the store fills.

    python -m benchmarks.flat --json

One run of no-op points over the local transport; the rate around the 1,000th point beside that around the 20,000th.
"""

from __future__ import annotations

import argparse

from benchmarks.measuring import median, show
from benchmarks.noop import ends_of_a_run


def rate(ends: list[float], place: int, window: int) -> float:
    """Points per second around a place."""
    first, last = max(place - window // 2, 0), min(place + window // 2, len(ends) - 1)
    return (last - first) / (ends[last] - ends[first])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=21_500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=1_500)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    early, late = [], []
    for _ in range(arguments.rounds):
        ends = ends_of_a_run(arguments.points)
        early.append(rate(ends, 1_000, arguments.window))
        late.append(rate(ends, arguments.points - arguments.window, arguments.window))
    result = {
        "benchmark": "flat",
        "rounds": arguments.rounds,
        "at_1000_per_s": median(early),
        f"at_{arguments.points - arguments.window}_per_s": median(late),
        "ratio": median([b / a for a, b in zip(early, late, strict=True)]),
    }
    show(
        result,
        [
            f"around point 1,000   {median(early):8.0f} points/s",
            f"around point {arguments.points - arguments.window:,}  {median(late):8.0f} points/s",
            f"ratio                {result['ratio']:8.2f} (goal: 0.8 at least)",
        ],
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
