"""The points that have not ended: where each stands, and who has the lease on it."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from hpo_steer.algorithm import Asked, Failure, Observation, Point, Step, Told
from hpo_steer.outcomes import standard_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from steering.curves import Curve
    from steering.reports import Reported
    from steering.store.base import IterationRecord, PointRecord


@dataclass(slots=True)
class LivePoint:
    """A point on its way.

    Attributes:
        record: as it was proposed.
        state: ``queued`` or ``running``; a follower stays queued.
        attempts: attempts begun or given up.
        lost: how many of them lost their worker.
        forgiven: how many of them count against nothing.
        worker: who has the lease.
        slot: in which of its slots.
        started_at: when the attempt began, seconds since the epoch.
        started: the same by the monotonic clock.
        heard: when the lease was last renewed, by the monotonic clock.
        published: when it last went to the work queue, by the monotonic clock; 0: it is not there.
        due: when it goes there, by the monotonic clock, if it has to wait for its next attempt; else 0.
        vanished: how often it was gone from there.
        pruned: why the attempt under way is ended early; None while it is to go on.
        reported: what that attempt has reported.
        origin: the point whose checkpoint it begins with, if any: its parent, or the one whose values that took over.
        claimant: a second worker (and its slot) that has the same attempt: it takes the lease over if the first
            is gone, and is stopped if that is heard of.
        followers: later points with the same parameters, which take over what becomes of this one.
        follows: the point whose outcome this one awaits.
    """

    record: PointRecord
    state: Literal["queued", "running"] = "queued"
    attempts: int = 0
    lost: int = 0
    forgiven: int = 0
    worker: str | None = None
    slot: int = 0
    started_at: float | None = None
    started: float = 0.0
    heard: float = 0.0
    published: float = 0.0
    due: float = 0.0
    vanished: int = 0
    pruned: str | None = None
    reported: Reported | None = None
    origin: int | None = None
    claimant: tuple[str, int] | None = None
    followers: list[LivePoint] = field(default_factory=list)
    follows: int | None = None

    @property
    def attempt(self) -> int:
        """The number of the attempt under way, or of the one a worker would begin now."""
        return self.attempts if self.state == "running" else self.attempts + 1

    @property
    def tried(self) -> int:
        """How many attempts count against the point."""
        return self.attempts - self.lost - self.forgiven


class Book:
    """All points that have not ended, and the parameters of all that were ever proposed."""

    def __init__(self) -> None:
        self._live: dict[int, LivePoint] = {}
        self._running: dict[int, LivePoint] = {}
        self._first: dict[tuple[str, str], int] = {}
        self._ids: dict[str, array[int]] = {}
        """The ids of each model's points, by their numbers."""
        self._last_id = 0

    def next_id(self) -> int:
        """A fresh point id."""
        self._last_id += 1
        return self._last_id

    def saw(self, point: int) -> bool:
        """Whether a point of this id was ever proposed."""
        return 0 < point <= self._last_id

    def remember(self, record: PointRecord) -> int | None:
        """Notes a point's parameters.

        Returns:
            The earlier point that has the same ones, if any.
        """
        self._last_id = max(self._last_id, record.id)
        ids = self._ids.setdefault(record.model, array("q"))
        if record.number == len(ids):
            ids.append(record.id)
        first = self._first.setdefault((record.model, record.hash), record.id)
        return first if first != record.id else None

    def id_of(self, model: str, number: int) -> int | None:
        """The id of a model's point, if there is one of that number."""
        ids = self._ids.get(model, ())
        return ids[number] if 0 <= number < len(ids) else None

    def first(self, model: str, hash_: str) -> int | None:
        """The first point of a model with these parameters, if there was one."""
        return self._first.get((model, hash_))

    def lead(self, record: PointRecord) -> None:
        """A point counts as the first with its parameters: it has a value, or is to get one."""
        self._first[record.model, record.hash] = record.id

    def pass_over(self, record: PointRecord) -> None:
        """Nothing came of a point: the next one with its parameters counts as the first."""
        if self._first.get((record.model, record.hash)) == record.id:
            del self._first[record.model, record.hash]

    def add(self, point: LivePoint) -> None:
        """A point is to be evaluated."""
        self._live[point.record.id] = point

    def get(self, point: int) -> LivePoint | None:
        """The point, if it has not ended."""
        return self._live.get(point)

    def run(self, point: LivePoint) -> None:
        """A worker has taken the lease."""
        point.state = "running"
        self._running[point.record.id] = point

    def requeue(self, point: LivePoint) -> None:
        """The lease is gone, the point waits again."""
        point.state, point.worker, point.started_at, point.claimant = "queued", None, None, None
        point.pruned = None
        self._running.pop(point.record.id, None)

    def remove(self, point: LivePoint) -> None:
        """The point has ended."""
        del self._live[point.record.id]
        self._running.pop(point.record.id, None)

    def running(self) -> list[LivePoint]:
        """Points with a lease."""
        return list(self._running.values())

    def queued(self, model: str | None = None) -> list[LivePoint]:
        """Points that wait for a worker, in the order of their ids; followers are not among them."""
        return [
            p
            for p in self._live.values()
            if p.state == "queued" and p.follows is None and model in (None, p.record.model)
        ]

    def __len__(self) -> int:
        return len(self._live)


def observation(record: PointRecord, curve: Curve | None = None) -> Observation:
    """What an algorithm is told of a point that has ended.

    Args:
        record: of the point.
        curve: what a pruned one had reported.
    """
    if record.state == "done" and record.values is not None:
        sem = standard_errors(record.values, record.metrics or {})
        return Observation(record.number, record.values, params=record.params, sem=sem or None)
    failure = record.failure or Failure("error", "unknown")
    return Observation(record.number, failure=failure, params=record.params, curve=curve)


class Ended:
    """The points that have ended, in the order their algorithm was told.

    Args:
        points: of one model.
    """

    def __init__(self, points: list[PointRecord]) -> None:
        self._points = sorted((p for p in points if p.told is not None), key=lambda p: p.told or 0)
        self._places = [p.told or 0 for p in self._points]

    def between(self, after: int, up_to: int | None = None) -> list[PointRecord]:
        """Those told after a place, up to another (included; None: to the end)."""
        first = bisect_right(self._places, after)
        return self._points[first : None if up_to is None else bisect_right(self._places, up_to)]


def steps(
    iterations: list[IterationRecord], points: list[PointRecord], curves: Mapping[int, Curve]
) -> Iterator[tuple[Step, IterationRecord]]:
    """The asks of a model and the observations told before each, in the order they happened.

    Args:
        iterations: all of one model, by number.
        points: all of that model.
        curves: what its pruned points had reported, by id.

    Yields:
        Each step, with the iteration it belongs to (a `Told` to the iteration after it).
    """
    ended = Ended(points)
    by_iteration: dict[int, list[PointRecord]] = {}
    for record in points:
        by_iteration.setdefault(record.iteration, []).append(record)
    numbers = {record.id: record.number for record in points}
    told = 0
    for iteration in iterations:
        if iteration.told > told:
            if heard := ended.between(told, iteration.told):
                yield Told([observation(r, curves.get(r.id)) for r in heard]), iteration
            told = iteration.told
        asked = sorted(by_iteration.get(iteration.number, []), key=lambda r: r.number)
        proposed = [
            Point(r.number, dict(r.params), None if r.parent is None else numbers[r.parent]) for r in asked
        ]
        yield Asked(iteration.wanted, proposed, given=iteration.origin != "algorithm"), iteration
        if iteration.origin == "known":
            told = iteration.size
            yield Told([observation(r, curves.get(r.id)) for r in ended.between(0, told)]), iteration


def worker_process(worker: str) -> tuple[str, int] | None:
    """Machine and process id in a worker's id ``host-pid-random``."""
    parts: list[Any] = worker.rsplit("-", 2)
    return (parts[0], int(parts[1])) if len(parts) == 3 and str(parts[1]).isdigit() else None
