"""How many points a second go through RabbitMQ and the store, beside bare pika and beside Optuna.

    python -m benchmarks.throughput --json

In one run, so that a busy machine slows all of them: (a) bare pika, (b) hpo-steer with its SQLite store, two
workers and a training that does nothing, (c) Optuna with two processes on PostgreSQL and on SQLite.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.bare_pika import round_trips
from benchmarks.measuring import median, postgresql, rabbitmq, show
from benchmarks.noop import ends_of_a_run

_OPTUNA = """
import sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.load_study(study_name="s", storage=sys.argv[1], sampler=optuna.samplers.RandomSampler())
study.optimize(lambda t: sum(t.suggest_float(f"x{i}", 0, 1) for i in range(10)) * 0, n_trials=int(sys.argv[2]))
"""


def steered(url: str, points: int) -> dict[str, float]:
    """Runs an experiment of no-op points over the broker.

    Returns:
        Points per second, over all of them and over the last quarter, from the store's own times.
    """
    ends = ends_of_a_run(points, url)
    # the workers' start-up (Python, imports, connecting) is not throughput: count from the first result
    quarter = points // 4
    return {
        "points_per_s": (points - 1) / (ends[-1] - ends[0]),
        "last_quarter_per_s": quarter / (ends[-1] - ends[-1 - quarter]),
    }


def optuna_two_processes(storage: str, trials: int) -> float:
    """Two processes share a study.

    Returns:
        Trials per second, Python's and Optuna's start-up left out.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="s", storage=storage)
    each = trials // 2
    processes = [
        subprocess.Popen([sys.executable, "-c", _OPTUNA, storage, str(each)], stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    for process in processes:
        process.wait()
    frozen = [t for t in study.get_trials(deepcopy=False) if t.datetime_complete and t.datetime_start]
    begin = min(t.datetime_start for t in frozen)
    end = max(t.datetime_complete for t in frozen)
    return float(len(frozen) / (end - begin).total_seconds())


def measure(points: int, trials: int, rounds: int) -> dict[str, Any]:
    """All contenders, in turn, `rounds` times."""
    bare: list[float] = []
    ours: list[dict[str, float]] = []
    for number in range(rounds):
        with rabbitmq() as node:
            bare.append(round_trips(node.url, points))
            ours.append(steered(node.url, points))
        print(
            f"round {number + 1}: bare {bare[-1]:.0f}/s, hpo-steer {ours[-1]['points_per_s']:.0f}/s",
            file=sys.stderr,
        )
    with tempfile.TemporaryDirectory() as folder:
        on_sqlite = optuna_two_processes(f"sqlite:///{folder}/optuna.db", trials)
    with postgresql() as server:
        url = server.url.replace("postgresql://tests", f"postgresql+psycopg://tests:{server.password}")
        on_postgresql = optuna_two_processes(url, trials)
    speed = median([o["points_per_s"] for o in ours])
    ratios = [o["points_per_s"] / b for o, b in zip(ours, bare, strict=True)]
    return {
        "benchmark": "throughput",
        "points": points,
        "rounds": rounds,
        "bare_pika_per_s": median(bare),
        "hpo_steer_per_s": speed,
        "hpo_steer_last_quarter_per_s": median([o["last_quarter_per_s"] for o in ours]),
        "ratio_to_bare_pika": median(ratios),
        "ratios_to_bare_pika": ratios,
        "optuna_sqlite_per_s": on_sqlite,
        "optuna_postgresql_per_s": on_postgresql,
        "ratio_to_better_optuna": speed / max(on_sqlite, on_postgresql),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=5000)
    parser.add_argument("--trials", type=int, default=200, help="of Optuna, both processes together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    result = measure(arguments.points, arguments.trials, arguments.rounds)
    result["took_s"] = time.perf_counter() - begin
    show(
        result,
        [
            f"bare pika             {result['bare_pika_per_s']:8.0f} points/s",
            f"hpo-steer, RabbitMQ   {result['hpo_steer_per_s']:8.0f} points/s",
            f"hpo-steer has {result['ratio_to_bare_pika']:.2f} of bare pika (goal 0.5)",
            f"Optuna on SQLite      {result['optuna_sqlite_per_s']:8.1f} trials/s",
            f"Optuna on PostgreSQL  {result['optuna_postgresql_per_s']:8.1f} trials/s",
            f"hpo-steer is {result['ratio_to_better_optuna']:.1f} times the better Optuna (goal 20)",
        ],
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
