"""Runs as a steering would have left them, written through the store's public face."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo_steer.algorithm import Failure
from hpo_steer.config import validate
from steering.store.base import AttemptRecord, IterationRecord, ModelRecord, PointRecord, RunRecord
from steering.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BEGAN = 1_760_000_000.0

SPACE: dict[str, Any] = {
    "eta": {"type": "float", "low": 0.001, "high": 0.5, "log": True},
    "max_depth": {"type": "int", "low": 2, "high": 12},
    "booster": {"type": "categorical", "choices": ["gbtree", "dart"]},
    "rate_drop": {"type": "float", "low": 0.0, "high": 0.5, "when": {"booster": "dart"}},
}


def config(name: str = "digits", **changes: Any) -> dict[str, Any]:
    """A config's data."""
    return {
        "name": name,
        "seed": 1,
        "search_space": SPACE,
        "objectives": {"loss": "minimize"},
        "algorithm": "random",
        "steering": {"points_per_iteration": 10, "max_points": 40},
        "evaluation": {"function": "train.py:train"},
        **changes,
    }


def measure(params: Mapping[str, Any], goals: Sequence[str], easier: float) -> dict[str, float]:
    """Made-up results, smooth and over two decades."""
    loss = 0.02 + 0.3 * (math.log10(params["eta"]) + 1.2) ** 2 + 0.02 * abs(params["max_depth"] - 6)
    loss += 0.3 * params.get("rate_drop", 0.1)
    others = {
        "latency_ms": 2.0 * params["max_depth"] + 20 * params["eta"],
        "size_mb": 1.5 ** params["max_depth"],
        "train_loss": loss / params["max_depth"],
    }
    return {"loss": loss * easier, **{k: v for k, v in others.items() if k in goals}}


def record_run(
    folder: Path,
    data: Mapping[str, Any] | None = None,
    *,
    iterations: int = 4,
    size: int = 10,
    ended: str | None = "max_points (40) reached",
    eventful: bool = True,
) -> Path:
    """Writes a run.

    Args:
        folder: that run folders lie in.
        data: of the config.
        iterations: of each model.
        size: points in each.
        ended: why it ended; None: it goes on, and its last point runs.
        eventful: with failures, a second attempt and a duplicate.

    Returns:
        The run's folder.
    """
    data = data or config()
    experiment = validate(data)
    place = folder / experiment.name
    (place / "logs").mkdir(parents=True)
    card = {"name": experiment.name, "run": "r1", "store": None, "config": str(folder.parent / "digits.yaml")}
    (place / "run.json").write_text(json.dumps(card))
    store = open_store(place, experiment.name, create=True)
    try:
        store.lock("a test")
        models = [ModelRecord(m.name, i) for i, m in enumerate(experiment.models)]
        store.create(RunRecord(experiment.name, "r1", experiment.model_dump(mode="json"), BEGAN), models)
        writer = _Writer(store, experiment, eventful)
        for number in range(1, iterations + 1):
            for place_, model in enumerate(experiment.models):
                writer.iteration(
                    model, place_, number, size, last_runs=ended is None and number == iterations
                )
        with store.transaction() as transaction:
            transaction.set_run(elapsed_s=writer.clock - BEGAN, ended=ended)
    finally:
        store.close()
    return place


class _Writer:
    def __init__(self, store: Any, experiment: Any, eventful: bool) -> None:
        self.store, self.experiment, self.eventful = store, experiment, eventful
        self.clock = BEGAN
        self._ids = 0
        self._told: dict[str, int] = {}
        self._rng = np.random.default_rng(5)

    def iteration(self, model: Any, place: int, number: int, size: int, *, last_runs: bool) -> None:
        space = self.experiment.space(model)
        began = self.clock
        records: list[PointRecord] = []
        for i, params in enumerate(space.sample(size, self._rng)):
            if number > 1 and "eta" in params:
                params["eta"] = float(min(0.5, max(0.001, 0.063 * 10 ** self._rng.normal(0, 0.8 / number))))
            if self.eventful and number == 2 and i == size - 1:
                params = dict(records[0].params)  # noqa: PLW2901 - proposed again
            self._ids += 1
            n = (number - 1) * size + i
            records.append(
                PointRecord(
                    self._ids, model.name, n, number, params, space.hash(params), created_at=began + 0.5
                )
            )
        told = self._told.get(model.name, 0)
        with self.store.transaction() as transaction:
            transaction.add_iteration(
                IterationRecord(model.name, number, size, size, told, began, 0.3 + 0.1 * number), records
            )
        with self.store.transaction() as transaction:
            for i, record in enumerate(records):
                if last_runs and i == size - 1:
                    self._start(transaction, record, i)
                else:
                    self._end(transaction, record, i, place)
        self.clock = began + 0.5 + math.ceil(size / 2) * 2.4

    def _start(self, transaction: Any, record: PointRecord, i: int) -> None:
        transaction.start_attempt(AttemptRecord(record.id, 1, f"node-{100 + i % 2}-abc", 0, self.clock + i))

    def _end(self, transaction: Any, record: PointRecord, i: int, place: int) -> None:
        model = record.model
        self._told[model] = told = self._told.get(model, 0) + 1
        begin = self.clock + 0.6 + (i // 2) * 2.3
        took = 1.2 + 0.9 * float(self._rng.random())
        worker = f"node-{100 + i % 2}-abc"
        attempts, failure, duplicate = 1, None, None
        first = record.iteration == 1 and self.eventful
        if first and i == 2:
            failure = Failure("timeout", "took longer than 2 s")
        elif first and i == 5:
            failure, attempts = Failure("error", "ValueError: <b>no</b> data & more"), 2
        elif self.eventful and record.iteration == 2 and i == 9:
            duplicate = record.id - 9
        goals = list(self.experiment.measured)
        values = measure(record.params, goals, 1.0 + 0.5 * place)
        log = (
            'Traceback (most recent call last):\n  File "train.py"\nValueError: <b>no</b> data & more'
            if failure
            else ""
        )
        if duplicate is None:
            for attempt in range(1, attempts + 1):
                at = begin + (attempt - 1) * took / attempts
                transaction.end_attempt(
                    AttemptRecord(
                        record.id,
                        attempt,
                        worker,
                        0,
                        at,
                        at + took / attempts,
                        took / attempts,
                        failure.kind if failure else "done",
                        failure.message if failure else "",
                        log,
                    )
                )
        transaction.end_point(
            PointRecord(
                record.id,
                model,
                record.number,
                record.iteration,
                record.params,
                record.hash,
                "failed" if failure else "done",
                None if failure else {name: values[name] for name in goals},
                None if failure else {**values, "train_s": took},
                failure,
                0 if duplicate else attempts,
                worker=None if duplicate else worker,
                created_at=record.created_at,
                started_at=None if duplicate else begin,
                ended_at=begin + took,
                duration_s=None if duplicate else took,
                told=told,
                duplicate_of=duplicate,
            )
        )
