"""What early stopping saves, and what it costs in quality, on learning curves of real trainings.

    python -m benchmarks.early_stopping --json
    python -m benchmarks.early_stopping --table 60 --points 30 --seeds 2
    python -m benchmarks.early_stopping --search bayesian --points 60 --seeds 5

Multilayer perceptrons of scikit-learn are trained on its digits, with random hyperparameters, for 27 epochs each: once,
into a table in memory. Then the real steering loop searches the table on a clock that is turned by hand, with 8
workers: a random search with the same points for each method and without any (``full``). With `--search` another
algorithm searches the whole space instead, and trains what it proposes. ``successive_halving`` is no pruning but an
algorithm that chooses how long each point is trained, and continues its best from their checkpoints; it draws points of
its own, about as many.

A training that is to be stopped learns of it at its next report, as `hpo_steer.report` tells it, so that its last epoch
is paid for as well. Epochs take log-normal times (sigma 0.3 between trainings). *Excess* is how much worse the best
completed point is than the best of the full search, as a share of its validation loss; for an algorithm of its own
than the best that its points would have come to in whole trainings.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import median, show, versions
from benchmarks.simulated import started_loop
from hpo_steer import SearchSpace
from hpo_steer.config import validate
from hpo_steer.messages import FailureInfo, Report, Result, Started, Stop, Work
from steering.hosts import InProcessHost
from steering.store.opening import open_store
from tests.unit.steering.simulation import Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EPOCHS = 27
METHODS: dict[str, Any] = {
    "full": None,
    "asha": {"method": "asha", "max_steps": EPOCHS},
    "asha from 1": {"method": "asha", "min_steps": 1, "max_steps": EPOCHS},
    "hyperband": {"method": "hyperband", "max_steps": EPOCHS},
    "median": {"method": "median", "warmup_steps": 3},
    "percentile 25": {"method": "percentile", "percentile": 25.0, "warmup_steps": 3},
    "patience": {"method": "patience", "steps": 5},
}
HALVING: dict[str, dict[str, Any]] = {
    "successive_halving": {"name": "successive_halving", "budget": "epochs", "min": 3},
    "successive_halving from 1": {"name": "successive_halving", "budget": "epochs"},
}
"""Algorithms in place of pruning; a third of the points of a rung rise, and count as points of their own."""
SPACE: dict[str, Any] = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
    "units": {"type": "int", "low": 8, "high": 128, "log": True},
    "alpha": {"type": "float", "low": 1e-6, "high": 0.1, "log": True},
    "batch": {"type": "int", "low": 16, "high": 256, "log": True},
    "activation": {"type": "categorical", "choices": ["relu", "tanh", "logistic"]},
}
_EPOCH_S = 10.0

Curve = list[dict[str, float]]
"""The metrics after each epoch."""


# ---------------------------------------------------------------- trainings


@cache
def digits() -> tuple[Any, Any, Any, Any]:
    """A third of the digits is kept for validation."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    found = train_test_split(
        data.data / 16.0, data.target, test_size=1 / 3, random_state=0, stratify=data.target
    )
    return tuple(found)


def trained(params: Mapping[str, Any], seed: int = 0) -> Curve:
    """Validation loss and error after each epoch of a training."""
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    x, x_valid, y, y_valid = digits()
    model = MLPClassifier(
        (params["units"],),
        activation=params["activation"],
        alpha=params["alpha"],
        batch_size=params["batch"],
        learning_rate_init=params["learning_rate"],
        random_state=seed,
    )
    curve = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(EPOCHS):
            model.partial_fit(x, y, classes=np.arange(10))
            chances = np.nan_to_num(model.predict_proba(x_valid), nan=0.1)
            curve.append(
                {
                    "loss": float(log_loss(y_valid, chances, labels=np.arange(10))),
                    "error": float(np.mean(chances.argmax(axis=1) != y_valid)),
                }
            )
    return curve


# ---------------------------------------------------------------- the loop, on a clock of its own


@dataclass
class Spent:
    """What a simulated search has cost and found.

    Attributes:
        epochs: trained in all.
        pruned: how many points were ended early.
        seconds: on the simulated clock.
        losses: of the completed points.
        errors: likewise.
        possible: what each point would have come to in a whole training.
    """

    epochs: int = 0
    pruned: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    possible: list[float] = field(default_factory=list)


@dataclass
class _Training:
    work: Work
    slot: int
    curve: Curve
    epoch_s: float
    until: int = EPOCHS
    epoch: int = 0
    stopped: str | None = None


def simulate(data: Mapping[str, Any], curve_of: Callable[[Mapping[str, Any]], Curve], slots: int) -> Spent:
    """Runs an experiment through the real loop.

    Args:
        data: its config. A parameter ``epochs`` says how long a point is trained; one that continues another goes on
            where that has ended.
        curve_of: the curve of a whole training of a point.
        slots: how many points are trained at once.
    """
    store = open_store("memory", "early", create=True)
    store.lock("benchmark")
    bench = Bench(validate(dict(data)), store)
    bench.create()
    loop = started_loop(bench, InProcessHost())
    spent, free = Spent(), list(range(slots))
    busy: list[tuple[float, int, _Training]] = []
    running: dict[int, _Training] = {}
    ended_at: dict[int, int] = {}
    began = bench.clock.now
    try:
        while not loop.over:
            loop.step(0)
            for stop in bench.transport.controls:
                if isinstance(stop, Stop) and stop.point in running:
                    running[stop.point].stopped = stop.reason
            bench.transport.controls.clear()
            while free and bench.transport.work:
                work = bench.take()
                pace = np.random.default_rng(work.point).lognormal(0.0, 0.3)
                params = dict(work.params)
                until = params.pop("epochs", EPOCHS)
                begun = 0 if work.parent is None else ended_at[work.parent]
                ended_at[work.point] = until
                training = _Training(
                    work, free.pop(0), curve_of(params), _EPOCH_S * float(pace), until, begun
                )
                if work.parent is None:
                    spent.possible.append(training.curve[-1]["loss"])
                running[work.point] = training
                bench.transport.events.append(Started(**_stamp(training), slot=training.slot))
                heapq.heappush(busy, (bench.clock.now + training.epoch_s, work.point, training))
            if busy and not bench.transport.events:
                at, _, training = heapq.heappop(busy)
                bench.clock.now = max(at, bench.clock.now)
                spent.epochs += 1
                if _advance(bench, training, spent):
                    heapq.heappush(busy, (bench.clock.now + training.epoch_s, training.work.point, training))
                else:
                    del running[training.work.point]
                    free.append(training.slot)
        spent.seconds = bench.clock.now - began
        return spent
    finally:
        loop.close()
        bench.transport.close()
        store.close()


def _advance(bench: Bench, training: _Training, spent: Spent) -> bool:
    """An epoch has ended; returns whether another one begins."""
    metrics = training.curve[training.epoch]
    training.epoch += 1
    bench.transport.events.append(Report(**_stamp(training), step=training.epoch, metrics=metrics))
    ended: dict[str, Any] = {"started_at": 0.0, "duration_s": training.epoch * training.epoch_s}
    if training.stopped is not None:
        failure = FailureInfo(kind="pruned", message=training.stopped)
        bench.transport.events.append(Result(**_stamp(training), failure=failure, **ended))
        spent.pruned += 1
        return False
    if training.epoch == training.until:
        bench.transport.events.append(Result(**_stamp(training), metrics=metrics, **ended))
        if training.epoch == EPOCHS:
            spent.losses.append(metrics["loss"])
            spent.errors.append(metrics["error"])
        return False
    return True


def _stamp(training: _Training) -> dict[str, Any]:
    work = training.work
    return {
        "experiment": work.experiment,
        "run": work.run,
        "worker": f"host-{training.slot}-a",
        "at": 0.0,
        "point": work.point,
        "attempt": work.attempt,
    }


def config(
    space: Mapping[str, Any], algorithm: str | Mapping[str, Any], points: int, seed: int, pruning: Any
) -> dict[str, Any]:
    """An experiment."""
    return {
        "name": "early",
        "seed": seed,
        "search_space": dict(space),
        "objectives": {"loss": "minimize"},
        "algorithm": algorithm if isinstance(algorithm, str) else dict(algorithm),
        "steering": {"points_per_iteration": 10, "max_points": points, "trigger": "top_up"},
        "evaluation": {"function": "train.py:train", "workers": 0, "lease_s": 1e9},
        "pruning": pruning,
    }


# ---------------------------------------------------------------- figures


def compare(
    space: Mapping[str, Any],
    curve_of: Callable[[Mapping[str, Any]], Curve],
    *,
    algorithm: str,
    points: int,
    seeds: int,
    slots: int,
    methods: Sequence[str] = (*METHODS, *HALVING),
) -> list[dict[str, Any]]:
    """Each method beside the full search, medians over the seeds."""
    found: dict[str, list[Spent]] = {name: [] for name in methods}
    for seed in range(seeds):
        for name in methods:
            if name in HALVING:
                data = _halving(space, HALVING[name], points, seed)
            else:
                data = config(space, algorithm, points, seed, METHODS[name])
            found[name].append(simulate(data, curve_of, slots))
    return [_figures(name, found[name], found["full"]) for name in methods]


def _halving(
    space: Mapping[str, Any], algorithm: Mapping[str, Any], points: int, seed: int
) -> dict[str, Any]:
    """An experiment in which about so many points are drawn, and the others are risen ones."""
    budget = {"epochs": {"type": "int", "low": 1, "high": EPOCHS}}
    rungs = math.log(EPOCHS / algorithm.get("min", 1), 3)
    total = round(points * sum(3.0**-k for k in range(round(rungs) + 1)))
    return config({**space, **budget}, algorithm, total, seed, None)


def _figures(name: str, runs: Sequence[Spent], full: Sequence[Spent]) -> dict[str, Any]:
    if not all(run.losses for run in runs):
        raise SystemExit(f"{name}: in some search no training was a whole one; give more --points")
    pairs = list(zip(runs, full, strict=True))
    own = name in HALVING
    excesses = [min(r.losses) / (min(r.possible) if own else min(f.losses)) - 1.0 for r, f in pairs]
    return {
        "method": name,
        "epochs_share": round(median([r.epochs / f.epochs for r, f in pairs]), 4),
        "time_share": round(median([r.seconds / f.seconds for r, f in pairs]), 4),
        "drawn": median([len(r.possible) for r in runs]),
        "pruned": median([r.pruned for r in runs]),
        "best_loss": round(median([min(r.losses) for r in runs]), 5),
        "excess_loss": round(median(excesses), 5),
        "worst_excess_loss": round(max(excesses), 5),
        "best_error": round(median([min(r.errors) for r in runs]), 5),
        "within_1_percent": sum(excess <= 0.01 for excess in excesses),
        "runs": len(runs),
    }


def table_of(size: int, kept: Path | None = None) -> list[Curve]:
    """The curves of so many random points; from a file that an earlier run has left, if it is there."""
    if kept is not None and kept.exists():
        found: list[Curve] = json.loads(kept.read_text())
        return found[:size]
    space = SearchSpace.from_dict(SPACE)
    found = [trained(params) for params in space.sample(size, np.random.default_rng(1))]
    if kept is not None:
        kept.write_text(json.dumps(found))
    return found


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=int, default=400, help="trainings in the table")
    parser.add_argument("--keep", type=Path, help="a file that keeps the table for the next run")
    parser.add_argument("--points", type=int, default=100, help="of one search")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--search", help="an algorithm that searches the whole space")
    parser.add_argument("--methods", default=",".join([*METHODS, *HALVING]), help="full has to be among them")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.search:
        known: dict[str, Curve] = {}

        def curve_of(params: Mapping[str, Any]) -> Curve:
            key = json.dumps(params, sort_keys=True)
            if key not in known:
                known[key] = trained(params)
            return known[key]

        space: Mapping[str, Any] = SPACE
    else:
        table = table_of(options.table, options.keep)
        space = {"row": {"type": "int", "low": 0, "high": options.table - 1}}

        def curve_of(params: Mapping[str, Any]) -> Curve:
            return table[params["row"]]

    rows = compare(
        space,
        curve_of,
        algorithm=options.search or "random",
        points=options.points,
        seeds=options.seeds,
        slots=options.slots,
        methods=options.methods.split(","),
    )
    result = {
        "benchmark": "early_stopping",
        "search": options.search or "random",
        "table": None if options.search else options.table,
        "points": options.points,
        "slots": options.slots,
        "epochs": EPOCHS,
        "versions": versions(["scikit-learn", "numpy"]),
        "methods": rows,
    }
    lines = [f"{'method':<25} epochs   time  pruned    loss  excess  worst  error  within 1 %"]
    lines += [
        f"{r['method']:<25} {r['epochs_share']:6.1%} {r['time_share']:6.1%} {r['pruned']:7g} {r['best_loss']:7.4f} "
        f"{r['excess_loss']:7.2%} {r['worst_excess_loss']:6.1%} {r['best_error']:6.4f}  "
        f"{r['within_1_percent']} of {r['runs']}"
        for r in rows
    ]
    show(result, lines, as_json=options.json)


if __name__ == "__main__":
    main()
