"""Reads what is new in a run's store and passes it on to a logger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from steering.feasibility import feasible
from steering.loggers.base import Better, ended
from steering.search import ModelSearch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from hpo_steer.config import Experiment
    from steering.loggers.base import RunLogger
    from steering.store.base import PointRecord, ReportRecord, Store

_BATCH = 500

T = TypeVar("T")


class Written:
    """Which ended points a tool has whole, kept in a file from session to session.

    Args:
        path: of the file.
        target: where the tool writes to; what an earlier one was given counts for nothing.
    """

    def __init__(self, path: Path, target: str) -> None:
        self._path, self._known = path, set[tuple[int, int | None]]()
        lines = _lines(path)
        if next(lines, None) == {"target": target}:
            self._known = {(line["point"], line["told"]) for line in lines if "point" in line}
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(json.dumps({"target": target}) + "\n", encoding="utf-8")

    def __contains__(self, point: PointRecord) -> bool:
        return (point.id, point.told) in self._known

    def add(self, point: PointRecord) -> None:
        """A point is written."""
        self._known.add((point.id, point.told))
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"point": point.id, "told": point.told}) + "\n")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file that may end in the middle of a line."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


class Journal:
    """Follows a run.

    Args:
        store: opened for reading.
        experiment: its config.
        logger: has begun.
        written: what it wrote in earlier sessions.
    """

    def __init__(self, store: Store, experiment: Experiment, logger: RunLogger, written: Written) -> None:
        self._store, self._experiment = store, experiment
        self._logger, self._written = logger, written
        self._searches: dict[str, ModelSearch] = {}
        self._newest = 0
        self._open: set[int] = set()
        self._seen: dict[int, float] = {}
        """When the last report was taken in, of each point that was passed on and has not ended."""

    def pass_on(self) -> None:
        """Passes on what has happened since the last call.

        A point that ends between two reads of the store is seen as running, and comes with the next call.
        """
        while fresh := self._store.points(after=self._newest, limit=_BATCH):
            self._open.update(point.id for point in fresh)
            self._newest = fresh[-1].id
        active = {point.id: point for point in self._store.points(states=("queued", "running"))}
        self._open |= active.keys()  # among them those that were given a fresh start
        over = [
            point
            for ids in _batches(sorted(self._open - active.keys()))
            for point in self._store.points(ids=ids)
            if ended(point)
        ]
        over.sort(key=lambda point: point.told or 0)  # the order in which its model's search heard of it
        for batch in _batches(over):
            reports = self._reports(point.id for point in batch if point not in self._written)
            for point in batch:
                self._ended(point, reports.get(point.id, []))
        running = [point for point in active.values() if point.state == "running"]
        for batch in _batches(running):
            reports = self._reports(point.id for point in batch)
            for point in batch:
                self._runs(point, reports.get(point.id, []))

    def _reports(self, points: Iterable[int]) -> dict[int, list[ReportRecord]]:
        found = sorted(self._store.reports(list(points)), key=lambda report: report.at)
        by_point: dict[int, list[ReportRecord]] = {}
        for report in found:
            by_point.setdefault(report.point, []).append(report)
        return by_point

    def _new(self, point: PointRecord, reports: list[ReportRecord]) -> list[ReportRecord]:
        return [report for report in reports if report.at > self._seen.get(point.id, 0.0)]

    def _runs(self, point: PointRecord, reports: list[ReportRecord]) -> None:
        new = self._new(point, reports)
        if new or point.id not in self._seen:
            self._logger.point(point, new)
            self._seen[point.id] = new[-1].at if new else self._seen.get(point.id, 0.0)

    def _ended(self, point: PointRecord, reports: list[ReportRecord]) -> None:
        if point not in self._written and not _never_ran(point):
            self._logger.point(point, self._new(point, reports))
            self._written.add(point)
        self._seen.pop(point.id, None)
        self._open.discard(point.id)
        self._compare(point)

    def _compare(self, point: PointRecord) -> None:
        """Tells of a new best; which points are better is for the search's own rule to say."""
        goals, outcomes = self._experiment.goals, self._experiment.outcomes
        search = self._searches.setdefault(
            point.model, ModelSearch(self._experiment.steering, goals, outcomes)
        )
        if not feasible(outcomes, point) or not search.end_point(point.iteration, point.values):
            return
        values = point.values or {}
        figures = (
            {f"best/{goals[0].name}": values[goals[0].name]}
            if len(goals) == 1
            else {"front/points": float(search.front_size)}
        )
        self._logger.better(Better(point, figures, point.told or 0, point.ended_at or point.created_at))


def _never_ran(point: PointRecord) -> bool:
    """Whether a point was cancelled before a worker had it."""
    return point.failure is not None and point.failure.kind == "cancelled" and not point.attempts


def _batches(each: list[T]) -> Iterator[list[T]]:
    for begin in range(0, len(each), _BATCH):
        yield each[begin : begin + _BATCH]
