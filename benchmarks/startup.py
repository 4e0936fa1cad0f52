"""How long the command line takes to say hello, and a search to its first points.

    python -m benchmarks.startup --json

``hpo-steer --help`` beside a bare Python that imports typer; and, each in a process of its own, the first 20 points
in ten dimensions by several methods beside the same of Optuna's `RandomSampler`, its quickest. They take turns in one
run. Also says which heavy packages ``import hpo_steer`` pulls in.
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

METHODS = ("random", "sobol", "auto", "bayesian")

FIRST_POINTS = """
from hpo_steer.registry import create_algorithm
space = {f"x{i}": {"type": "float", "low": 0, "high": 1} for i in range(10)}
assert len(create_algorithm("METHOD", space, {"loss": "minimize"}).ask(20)) == 20
"""

OPTUNA = """
import optuna
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
for _ in range(20):
    trial = study.ask()
    for i in range(10):
        trial.suggest_float(f"x{i}", 0, 1)
"""


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
    first_points: dict[str, list[float]] = {name: [] for name in (*METHODS, "optuna")}
    for _ in range(arguments.rounds):
        bare.append(timed([sys.executable, "-c", "import typer"]))
        ours.append(timed([str(Path(sys.executable).parent / "hpo-steer"), "--help"]))
        for name, taken in first_points.items():
            code = OPTUNA if name == "optuna" else FIRST_POINTS.replace("METHOD", name)
            taken.append(timed([sys.executable, "-c", code]))
    first = {name: median(taken) for name, taken in first_points.items()}
    result = {
        "benchmark": "startup",
        "rounds": arguments.rounds,
        "python_with_typer_s": median(bare),
        "hpo_steer_help_s": median(ours),
        "ratio": median([o / b for o, b in zip(ours, bare, strict=True)]),
        "import_hpo_steer_pulls_in": pulled_in(),
        "first_points_s": first,
    }
    show(
        result,
        [
            f"python, import typer  {result['python_with_typer_s']:.3f} s",
            f"hpo-steer --help      {result['hpo_steer_help_s']:.3f} s",
            f"ratio                 {result['ratio']:.2f} (goal: 3 at most)",
            "first 20 points, from the start of the process:",
            *(f"  {name:<20}{taken:.3f} s" for name, taken in first.items()),
            f"import hpo_steer pulls in: {', '.join(pulled_in()) or 'none of ' + ', '.join(HEAVY)}",
        ],
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
