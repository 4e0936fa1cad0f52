"""A run as the commands and reports read it: found by its name, opened for reading, never changed."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import ConfigError, NoSuchRun, UserError, nearest
from steering.budget import Budgets
from steering.feasibility import feasibility, feasible
from steering.front import Costs, Volume, front, measure
from steering.run_folder import CARD, RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from hpo_steer.config import Experiment
    from hpo_steer.objectives import Objective
    from hpo_steer.outcomes import OutcomeConstraint
    from hpo_steer.space import SearchSpace
    from steering.store.base import (
        AttemptRecord,
        Counts,
        IterationRecord,
        ModelRecord,
        PointRecord,
        RunRecord,
        Store,
    )
    from steering.store.opening import StoreLocation

RUNS = Path("runs")
_DATABASE = "store.db"
_ASIDE = re.compile(r"\.old-\d{8}-\d{6}$")


class RunView:
    """What reports need of a run. Everything is read from the store once, when it is first wanted.

    Args:
        store: of the run, opened for reading.
        folder: of the run.
        config: the config file it was started with, where that is known.

    Raises:
        NoSuchRun: the store holds no run.
    """

    def __init__(self, store: Store, folder: Path, config: Path | None = None) -> None:
        self.store, self.folder, self.config_path = store, folder, config
        record = store.run()
        if record is None:
            raise NoSuchRun(f"there is no run in {folder}")
        self.run: RunRecord = record

    def close(self) -> None:
        """Closes the store."""
        self.store.close()

    # ------------------------------------------------------------ what the store holds

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.run.name

    @cached_property
    def experiment(self) -> Experiment:
        """The config, as the run was made with it."""
        from hpo_steer.config import validate

        return validate(self.run.config)

    @property
    def goals(self) -> tuple[Objective, ...]:
        """The objectives."""
        return self.experiment.goals

    @property
    def outcomes(self) -> tuple[OutcomeConstraint, ...]:
        """The outcome constraints."""
        return self.experiment.outcomes

    @cached_property
    def counts(self) -> Counts:
        """How many points are in which state."""
        return self.store.counts()

    @cached_property
    def models(self) -> list[ModelRecord]:
        """All models in the config's order."""
        return self.store.models()

    @cached_property
    def iterations(self) -> list[IterationRecord]:
        """All iterations, by model and number, without the points that were known before."""
        return [each for each in self.store.iterations() if each.number]

    @cached_property
    def points(self) -> list[PointRecord]:
        """All points by id."""
        return list(self.store.each_point())

    @cached_property
    def attempts(self) -> list[AttemptRecord]:
        """The timeline: every attempt, in the order they began."""
        return sorted(self.store.attempts(), key=lambda a: (a.started_at or math.inf, a.point, a.attempt))

    @cached_property
    def by_model(self) -> dict[str, list[PointRecord]]:
        """The points of each model, in the order they were proposed."""
        found: dict[str, list[PointRecord]] = {model.name: [] for model in self.models}
        for point in self.points:
            found[point.model].append(point)
        return found

    def points_of(self, model: str | None = None) -> list[PointRecord]:
        """The points (of a model)."""
        return self.points if model is None else self.by_model[self.check_model(model)]

    def check_model(self, model: str) -> str:
        """The name, if there is such a model.

        Raises:
            UserError: there is none; the nearest name is offered.
        """
        names = [m.name for m in self.models]
        if model not in names:
            raise UserError(f'{self.name} has no model "{model}"; {nearest(model, names)}')
        return model

    def space(self, model: str) -> SearchSpace:
        """The search space of a model."""
        configured = next((m for m in self.experiment.models if m.name == model), None)
        return self.experiment.space(configured)

    def algorithm(self, model: str | None = None) -> Mapping[str, Any]:
        """The algorithm of a model (of the experiment) with its options."""
        configured = next((m for m in self.experiment.models if m.name == model), None)
        return self.experiment.algorithm_of(configured)

    # ------------------------------------------------------------ what is best

    def feasible(self, point: PointRecord) -> bool:
        """Whether a point is done and keeps all outcome constraints."""
        return feasible(self.outcomes, point)

    @cached_property
    def _budgets(self) -> Budgets:
        return Budgets(self.experiment, self.points, self.feasible)

    def contends(self, point: PointRecord) -> bool:
        """Whether a point may be the best: it is feasible, and none of its model was trained longer."""
        return self.feasible(point) and not self._budgets.lacking(point)

    def rank(self, point: PointRecord) -> tuple[float, float, int]:
        """What sorts done points by the first objective: the best first, of two equals the earlier.

        Those that were trained longest come before those that were trained less.
        """
        loss = self.goals[0].sign * (point.values or {})[self.goals[0].name]
        return self._budgets.lacking(point), loss, point.id

    def costs(self, point: PointRecord) -> Costs:
        """The values of a done point, all of them to be minimised."""
        values = point.values or {}
        return tuple(goal.sign * values[goal.name] for goal in self.goals)

    def best(self, model: str | None = None, n: int | None = None) -> list[PointRecord]:
        """The best done points: of one objective in their order, of several the Pareto front.

        Points that break an outcome constraint are not among them. Where an algorithm has a budget, the points with the
        greatest come first, and they alone make up the front.

        Args:
            model: of which model; None: of all together.
            n: how many at most; None: all.
        """
        done = [p for p in self.points_of(model) if self.feasible(p) and p.duplicate_of is None]
        if len(self.goals) == 1:
            return sorted(done, key=self.rank)[:n]
        found = front([p for p in done if not self._budgets.lacking(p)], self.costs)
        return found if n is None else found[:n]

    def first_iteration_best(self, model: str) -> PointRecord | None:
        """The best point of a model's first iteration: what the search was worth."""
        done = [p for p in self.by_model[model] if self.contends(p) and p.iteration == 1]
        return min(done, key=self.rank, default=None)

    def volume(self, model: str | None = None) -> Volume | None:
        """The hypervolume of a front; None with one objective or no feasible point.

        Args:
            model: of which model; None: of the only one (several models have no front in common).
        """
        if len(self.goals) < 2 or (model is None and len(self.models) > 1):
            return None
        return measure(self.goals, tuple(self.costs(p) for p in self.best(model)))

    # ------------------------------------------------------------ how it stands

    def last_log(self, point: PointRecord) -> str:
        """The last lines of the log of a point's last attempt."""
        tried = self.store.attempts(point.id)
        return tried[-1].log if tried else ""


# ---------------------------------------------------------------- as JSON


def timestamp(seconds: float | None) -> str | None:
    """ISO 8601 in UTC.

    >>> timestamp(0.5)
    '1970-01-01T00:00:00.500000+00:00'
    """
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def point_json(point: PointRecord, outcomes: Sequence[OutcomeConstraint]) -> dict[str, Any]:
    """A point as programs get it.

    Args:
        point: of a run.
        outcomes: the run's outcome constraints.
    """
    failure = point.failure
    return {
        "id": point.id,
        "model": point.model,
        "iteration": point.iteration,
        "params": dict(point.params),
        "state": point.state,
        "values": None if point.values is None else dict(point.values),
        "feasible": feasibility(outcomes, point),
        "failure": None if failure is None else {"kind": failure.kind, "message": failure.message},
        "attempts": point.attempts,
        "metrics": None if point.metrics is None else dict(point.metrics),
        "worker": point.worker,
        "created_at": timestamp(point.created_at),
        "started_at": timestamp(point.started_at),
        "ended_at": timestamp(point.ended_at),
        "duration_s": point.duration_s,
        "duplicate_of": point.duplicate_of,
        "parent": point.parent,
    }


def finite(data: Any) -> Any:
    """The data with None in place of NaN and infinities."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    return data


# ---------------------------------------------------------------- finding a run


@contextmanager
def open_view(run: str | None = None, *, config: Path | None = None, store: Path = RUNS) -> Iterator[RunView]:
    """Opens a run for reading; a steering may go on with it meanwhile.

    Args:
        run: its name, or its folder; None: the only one there is.
        config: a config file, in place of `run`.
        store: the folder that run folders lie in.

    Raises:
        NoSuchRun: there is none; the nearest name is offered, or all are listed.
        UserError: several could be meant.
    """
    from steering.store.opening import open_store

    folder, name, where, config = located(run, config, store)
    opened = open_store(where, name, create=False, read_only=True)
    try:
        yield RunView(opened, folder, config)
    finally:
        opened.close()


def located(
    run: str | None, config: Path | None, store: Path
) -> tuple[Path, str, StoreLocation, Path | None]:
    """Finds a run, as `open_view` does.

    Returns:
        Its folder, its name, where its store is, and its config's file where that is known.

    Raises:
        NoSuchRun: there is none.
        UserError: several could be meant.
    """
    from steering.store.opening import StoreLocation

    if config is not None:
        from hpo_steer.config import load_config
        from hpo_steer.config.secrets import store_password

        if run is not None:
            raise UserError("name the run or its --config, not both")
        loaded = load_config(config)
        where = loaded.experiment.store
        folder = Path(where.folder) / loaded.experiment.name
        if where.url is None:
            if not (folder / _DATABASE).exists():
                raise NoSuchRun(f"{config} has no run yet; start it: hpo-steer --config {config}")
            return folder, loaded.experiment.name, StoreLocation(folder=folder), config
        location = StoreLocation(url=where.url, password=store_password(where, loaded.folder))
        return folder, loaded.experiment.name, location, config
    folder = find_folder(run, store)
    card = RunFolder(folder).read_card() or {}
    name = str(card.get("name", folder.name))
    file = Path(card["config"]) if card.get("config") else None
    if card.get("store"):
        return folder, name, StoreLocation(url=str(card["store"]), password=_password(file)), file
    return folder, name, StoreLocation(folder=folder), file


def _password(file: Path | None) -> str | None:
    """The database's password: from the file that the config names, else from the environment.

    The config names no database where that was given with ``--set``.
    """
    from hpo_steer.config import Store, load_config
    from hpo_steer.config.secrets import store_password

    if file is not None and file.exists():
        try:
            loaded = load_config(file)
        except ConfigError:
            pass  # it has been changed since; the run itself can still be read
        else:
            if loaded.experiment.store.url is not None:
                return store_password(loaded.experiment.store, loaded.folder)
    return store_password(Store(url="postgresql://"), Path())


def find_folder(run: str | None, store: Path = RUNS) -> Path:
    """The folder of a run.

    Raises:
        NoSuchRun: there is none.
        UserError: several could be meant.
    """
    runs = {p.name: p for p in sorted(store.iterdir()) if is_run(p)} if store.is_dir() else {}
    if run is not None:
        if run in runs:
            return runs[run]
        if is_run(Path(run)):
            return Path(run)
        hint = f"; {nearest(run, runs)}" if runs else ""
        hint = hint.replace("it can be:", "there are:")
        raise NoSuchRun(f'there is no run "{run}" in {store}/{hint}')
    current = [name for name in runs if not _ASIDE.search(name)]
    if not current:
        raise NoSuchRun(f"there is no run in {store}/; start one: hpo-steer --config FILE")
    if len(current) > 1:
        shown = ", ".join(current[:20]) + (f" and {len(current) - 20} more" if len(current) > 20 else "")
        raise UserError(f"{store}/ has {len(current)} runs; name one: {shown}")
    return runs[current[0]]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return (folder / CARD).is_file() or (folder / _DATABASE).is_file()
