"""How long the command line takes to say hello, and what ``import hpo_steer`` pulls in.

    python -m benchmarks.startup --json

``hpo-steer --help`` beside a bare Python that imports typer, alternating in one run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measuring import median, show

HEAVY = (
    "torch",
    "botorch",
    "ax",
    "optuna",
    "nevergrad",
    "pymoo",
    "pika",
    "sqlalchemy",
    "alembic",
    "pandas",
    "matplotlib",
)


def timed(command: list[str]) -> float:
    """Seconds a command takes."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def pulled_in() -> list[str]:
    """Heavy packages that ``import hpo_steer`` imports."""
    code = f"import sys, hpo_steer; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    ours, bare = [], []
    for _ in range(arguments.rounds):
        bare.append(timed([sys.executable, "-c", "import typer"]))
        ours.append(timed([str(Path(sys.executable).parent / "hpo-steer"), "--help"]))
    result = {
        "benchmark": "startup",
        "rounds": arguments.rounds,
        "python_with_typer_s": median(bare),
        "hpo_steer_help_s": median(ours),
        "ratio": median([o / b for o, b in zip(ours, bare, strict=True)]),
        "import_hpo_steer_pulls_in": pulled_in(),
    }
    show(
        result,
        [
            f"python, import typer  {result['python_with_typer_s']:.3f} s",
            f"hpo-steer --help      {result['hpo_steer_help_s']:.3f} s",
            f"ratio                 {result['ratio']:.2f} (goal: 3 at most)",
            f"import hpo_steer pulls in: {', '.join(pulled_in()) or 'none of ' + ', '.join(HEAVY)}",
        ],
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
