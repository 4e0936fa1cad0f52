"""MLflow: a run for the experiment, and a run below it for each point."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from hpo_steer.transport.settings import conceal
from steering.loggers.base import Better, RunCard, RunLogger, ended

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from steering.store.base import PointRecord, ReportRecord

_BATCH = 500
_PARAMS = 100
_LONGEST = 4000
_RUN, _POINT, _PARENT = "hpo_steer.run", "hpo_steer.point", "mlflow.parentRunId"
_STATUS = {"pruned": "KILLED", "cancelled": "KILLED"}

Known = set[tuple[str, int, int]]
"""Metrics that a run has: name, step and time."""


class MLflowLogger(RunLogger):
    """Writes runs through MLflow's client.

    A point's reports are metrics by their names and steps, its result metrics below ``result/``, failures tags. What an
    earlier session wrote is found by its tags and read back, so that no metric is there twice.

    Args:
        card: the run.
        options: ``uri`` and ``experiment``.
    """

    def __init__(self, card: RunCard, options: Mapping[str, Any]) -> None:
        self._card = card
        own = f"sqlite:///{card.folder.absolute()}/mlflow.db"
        self._uri = options.get("uri") or os.environ.get("MLFLOW_TRACKING_URI") or own
        self._name = options.get("experiment") or card.name
        self._experiment = self._parent = ""
        self._known_of_parent: Known = set()
        self._found: dict[int, str] = {}
        """MLflow's ids of the points' runs that it had at the beginning, and of those made since."""
        self._live: dict[int, Known] = {}

    @property
    def target(self) -> str:
        """The tracking server and the experiment there."""
        return f"{conceal(self._uri)} {self._name}"

    # ------------------------------------------------------------ finding what there is

    def begin(self) -> None:
        """Finds or makes the experiment and the run for ours."""
        self._client = MlflowClient(tracking_uri=self._uri)
        experiment = self._client.get_experiment_by_name(self._name)
        self._experiment = (
            self._client.create_experiment(self._name) if experiment is None else experiment.experiment_id
        )
        parents = self._search(f"tags.`{_RUN}` = '{self._card.run}' and tags.`{_POINT}` = 'all'")
        if parents:
            self._parent = parents[0].info.run_id
            self._client.update_run(self._parent, status="RUNNING")
            self._known_of_parent = self._known(self._parent)
            for run in self._search(f"tags.`{_PARENT}` = '{self._parent}'"):
                self._found[int(run.data.tags[_POINT])] = run.info.run_id
            return
        tags = {_RUN: self._card.run, _POINT: "all"}
        made = self._client.create_run(
            self._experiment, int(1000 * self._card.created_at), tags, self._card.name
        )
        self._parent = made.info.run_id
        described = {"algorithm": self._card.config.get("algorithm"), "seed": self._card.config.get("seed")}
        self._client.log_batch(self._parent, params=_params(described))

    def _search(self, which: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._experiment], which, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _known(self, run: str) -> Known:
        return {
            (metric.key, metric.step, metric.timestamp)
            for name in self._client.get_run(run).data.metrics
            for metric in self._client.get_metric_history(run, name)
        }

    def _run_of(self, point: PointRecord) -> str:
        """MLflow's run of a point, made if need be, with what it knows."""
        run = self._found.get(point.id)
        if run is not None:
            if point.id not in self._live:
                self._live[point.id] = self._known(run)
                self._client.update_run(run, status="RUNNING")
            return run
        tags = {
            _PARENT: self._parent,
            _RUN: self._card.run,
            _POINT: str(point.id),
            "hpo_steer.model": point.model,
            "hpo_steer.iteration": str(point.iteration),
        }
        began = int(1000 * (point.started_at or point.created_at))
        name = self._card.title(point.model, f"point-{point.id}")
        run = str(self._client.create_run(self._experiment, began, tags, name).info.run_id)
        self._found[point.id], self._live[point.id] = run, set()
        return run

    # ------------------------------------------------------------ writing

    def point(self, point: PointRecord, reports: Sequence[ReportRecord]) -> None:
        """Writes what is new of a point."""
        first = point.id not in self._live
        run = self._run_of(point)
        if first:
            params = _params(self._card.params(point))
            for begin in range(0, len(params), _PARAMS):
                self._client.log_batch(run, params=params[begin : begin + _PARAMS])
        metrics = [
            _metric(name, value, report.at, report.step)
            for report in reports
            for name, value in report.metrics.items()
        ]
        if ended(point):
            at = point.ended_at or 0.0
            metrics += [
                _metric(f"result/{name}", value, at, 0)
                for name, value in (point.metrics or point.values or {}).items()
            ]
        self._write(run, metrics, self._live[point.id])
        if ended(point):
            self._finish(run, point)
            del self._live[point.id]

    def _write(self, run: str, metrics: Iterable[Metric], known: Known) -> None:
        new = [each for each in metrics if (each.key, each.step, each.timestamp) not in known]
        for begin in range(0, len(new), _BATCH):
            self._client.log_batch(run, metrics=new[begin : begin + _BATCH])
        known.update((each.key, each.step, each.timestamp) for each in new)

    def _finish(self, run: str, point: PointRecord) -> None:
        tags = {"hpo_steer.attempts": str(point.attempts), "hpo_steer.worker": point.worker or ""}
        status = "FINISHED"
        if point.failure is not None:
            status = _STATUS.get(point.failure.kind, "FAILED")
            tags["failure.kind"] = point.failure.kind
            tags["failure.message"] = point.failure.message
        if point.duplicate_of is not None:
            tags["hpo_steer.duplicate_of"] = str(point.duplicate_of)
        self._client.log_batch(run, tags=[RunTag(key, text[:_LONGEST]) for key, text in tags.items() if text])
        self._client.set_terminated(run, status, int(1000 * (point.ended_at or 0.0)))

    def better(self, better: Better) -> None:
        """The best so far, as a metric of the experiment's run over the number of points."""
        metrics = [
            _metric(self._card.title(better.point.model, name), value, better.at, better.place)
            for name, value in better.figures.items()
        ]
        self._write(self._parent, metrics, self._known_of_parent)
        title = self._card.title(better.point.model, "best.point")
        self._client.set_tag(self._parent, _name(title), str(better.point.id))

    def end(self, ended: str | None) -> None:
        """The experiment's run ends; one that can be resumed counts as killed until then."""
        if ended is not None:
            self._client.set_tag(self._parent, "hpo_steer.ended", ended[:_LONGEST])
        self._client.set_terminated(self._parent, "FINISHED" if ended is not None else "KILLED")


def _name(text: str) -> str:
    """A name as MLflow allows it."""
    return re.sub(r"[^/\w.\- ]", "_", text)[:250]


def _metric(name: str, value: float, at: float, step: int) -> Metric:
    return Metric(_name(name), float(value), int(1000 * at), step)


def _params(params: Mapping[str, Any]) -> list[Param]:
    return [Param(_name(name), str(value)[:_LONGEST]) for name, value in params.items() if value is not None]
