"""The store: what steering writes down, and what every number a user sees is read from.

One steering writes, anybody reads. The writer holds a lock with a fencing number: every transaction checks
that the number is still its own, so a steering that was thought dead can't write after another took over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from hpo_steer.algorithm import Failure

PointState = Literal["queued", "running", "done", "failed"]
Origin = Literal["algorithm", "known", "guess", "stand-in"]


@dataclass(frozen=True)
class Condition:
    """What steering is doing, as it wrote it down last.

    Attributes:
        at: when, in seconds since the epoch.
        waiting: why nothing moves, as a sentence; None while points go on.
        workers: how many are there.
        slots: how many points they can evaluate at once.
        fleet: what is known of each of them (of 200 at most): ``worker``, ``host``, ``slots``, ``done``, and how it
            is, as in `hpo_steer.messages.Health`.
    """

    at: float
    waiting: str | None = None
    workers: int = 0
    slots: int = 0
    fleet: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Owner:
    """Who steers a run.

    Attributes:
        name: such as ``host, process 123``.
        since: seconds since the epoch.
    """

    name: str
    since: float


@dataclass(frozen=True)
class RunRecord:
    """One experiment in a store.

    Attributes:
        name: of the experiment.
        run: id of this run of it; messages carry it.
        config: the config as data, secrets left out.
        created_at: seconds since the epoch.
        elapsed_s: how long steering has run in all its sessions.
        ended: why the search ended; None while it goes on or can be resumed.
        ended_at: seconds since the epoch.
        condition: what steering was doing when it last said so.
    """

    name: str
    run: str
    config: Mapping[str, Any]
    created_at: float
    elapsed_s: float = 0.0
    ended: str | None = None
    ended_at: float | None = None
    condition: Condition | None = None


@dataclass(frozen=True)
class ModelRecord:
    """One model of an experiment.

    Attributes:
        name: of the model.
        number: its place in the config, from 0.
        ended: why its search ended; None while it goes on.
    """

    name: str
    number: int
    ended: str | None = None


@dataclass(frozen=True)
class IterationRecord:
    """The points one ask produced.

    Attributes:
        model: which model's.
        number: from 1; 0 holds points that were known before the search began.
        wanted: how many points were asked for.
        size: how many were proposed.
        told: how many observations of this model the algorithm had been told before the ask.
        asked_at: seconds since the epoch.
        ask_s: how long the ask took.
        origin: who chose the points: the ``algorithm``; an earlier run or a user, with their values (``known``) or
            without (``guess``); a ``stand-in``, as the algorithm took too long.
        note: what the algorithm had to say of them.
    """

    model: str
    number: int
    wanted: int
    size: int
    told: int
    asked_at: float
    ask_s: float
    origin: Origin = "algorithm"
    note: str | None = None


@dataclass(frozen=True)
class PointRecord:
    """A point as the store has it.

    Attributes:
        id: unique in the experiment, from 1 in the order of proposal.
        model: which model's.
        number: the algorithm's id of it, from 0 in each model.
        iteration: from 1 in each model; 0 for a point known before the search began.
        params: the point's parameters, without the model's constants.
        hash: `SearchSpace.hash` of them, and of the algorithm's id of the parent.
        state: ``queued`` (proposed, no worker has begun), ``running``, ``done`` or ``failed``.
        values: what the algorithm is told, once done: objectives and metrics under outcome constraints.
        metrics: everything the training returned.
        failure: kind and message, once failed.
        attempts: attempts begun (or given up) so far.
        lost: how many of them lost their worker.
        worker: who runs it, or ended it.
        created_at: seconds since the epoch.
        started_at: of the last attempt.
        ended_at: when the store learnt of the end.
        duration_s: how long the last attempt ran.
        told: the place of its observation in the order its model's algorithm was told, from 1.
        duplicate_of: the point whose values it took over.
        forgiven: how many of them count against nothing: given back by workers that left in an orderly way,
            or made before the point was given a fresh start.
        parent: id of the point of the same model whose last checkpoint it begins with.
    """

    id: int
    model: str
    number: int
    iteration: int
    params: Mapping[str, Any]
    hash: str
    state: PointState = "queued"
    values: Mapping[str, float] | None = None
    metrics: Mapping[str, float] | None = None
    failure: Failure | None = None
    attempts: int = 0
    lost: int = 0
    worker: str | None = None
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    duration_s: float | None = None
    told: int | None = None
    duplicate_of: int | None = None
    forgiven: int = 0
    parent: int | None = None


@dataclass(frozen=True)
class AttemptRecord:
    """One try of a worker at a point.

    Attributes:
        point: id of the point.
        attempt: from 1.
        worker: who tried.
        slot: in which of its slots.
        started_at: seconds since the epoch, by steering's clock.
        ended_at: likewise; None while it runs.
        duration_s: by the worker's clock.
        outcome: ``done``, or the kind of its failure; None while it runs.
        message: of the failure.
        log: the last lines of its log.
        gpus: those that its slot had, by their UUIDs; known once it has ended.
    """

    point: int
    attempt: int
    worker: str | None
    slot: int
    started_at: float | None
    ended_at: float | None = None
    duration_s: float | None = None
    outcome: str | None = None
    message: str = ""
    log: str = ""
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportRecord:
    """An intermediate metric of an attempt.

    Attributes:
        point: id of the point.
        attempt: from 1.
        step: epoch or the like.
        metrics: finite numbers.
        at: when steering took it in, seconds since the epoch; no two reports of a run have the same time.
    """

    point: int
    attempt: int
    step: int
    metrics: Mapping[str, float]
    at: float


@dataclass(frozen=True)
class Counts:
    """How many points there are, by state.

    Attributes:
        queued: proposed, not begun.
        running: being evaluated.
        done: with values.
        failed: by failure kind.
        duplicates: among `done`, those that took over an earlier point's values.
    """

    queued: int = 0
    running: int = 0
    done: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0

    @property
    def ended(self) -> int:
        """Points that will not be evaluated any more."""
        return self.done + sum(self.failed.values())

    @property
    def total(self) -> int:
        """All points proposed."""
        return self.queued + self.running + self.ended


class Transaction(ABC):
    """Changes that are written together or not at all.

    Changes are gathered and written when the block ends without an exception, as few statements as can be, in
    an order that keeps references whole. A second `end_point` of one point is an error of the caller
    (ValueError), and so is its `requeue_point`; a late `start_attempt` of it only leaves the attempt's row.
    """

    @abstractmethod
    def add_iteration(self, iteration: IterationRecord, points: Sequence[PointRecord]) -> None:
        """A new iteration with its points."""

    @abstractmethod
    def start_attempt(self, attempt: AttemptRecord) -> None:
        """An attempt has begun: its point becomes ``running``."""

    @abstractmethod
    def end_attempt(self, attempt: AttemptRecord) -> None:
        """An attempt has ended (it may never have been started in the store): its row is complete now.

        The state of the point is not touched: `end_point` or `requeue_point` says what becomes of it.
        """

    @abstractmethod
    def requeue_point(self, point: int, attempts: int, lost: int, forgiven: int = 0) -> None:
        """A point goes out again: ``queued``, with these numbers of attempts spent."""

    @abstractmethod
    def reopen_point(self, point: int) -> None:
        """A failed point gets a fresh start: ``queued``, its failure forgotten, its attempts forgiven.

        It leaves the order in which its algorithm was told; its attempts' rows stay. A point that has not
        failed is an error of the caller (ValueError).
        """

    @abstractmethod
    def add_log(self, point: int, attempt: int, log: str) -> None:
        """The log of an attempt, where it came later than its end; one that is there stays."""

    @abstractmethod
    def end_point(self, point: PointRecord) -> None:
        """A point has ended: state, values, metrics, failure, attempts, worker, times, told, duplicate_of."""

    @abstractmethod
    def add_report(self, report: ReportRecord) -> None:
        """An intermediate metric; a second one of the same attempt and step replaces the first."""

    @abstractmethod
    def end_model(self, model: str, reason: str | None) -> None:
        """Why a model's search has ended (None: it goes on after all)."""

    @abstractmethod
    def set_run(
        self,
        *,
        elapsed_s: float | None = None,
        ended: str | Literal[False] | None = False,
        config: Any = None,
        condition: Condition | None = None,
    ) -> None:
        """Changes the run's own row; what is left out stays. ``ended=None`` takes an end back."""


class Store(ABC):
    """One experiment in a database."""

    # ------------------------------------------------------------ the run

    @abstractmethod
    def create(self, run: RunRecord, models: Sequence[ModelRecord]) -> None:
        """Writes a new run.

        Raises:
            StoreError: there is one of this name already.
        """

    @abstractmethod
    def run(self) -> RunRecord | None:
        """The run, or None if none of this name was created."""

    @abstractmethod
    def add_models(self, models: Sequence[ModelRecord]) -> None:
        """Models that an extended config adds."""

    @abstractmethod
    def delete(self) -> None:
        """Removes the run and everything in it."""

    # ------------------------------------------------------------ one writer

    @abstractmethod
    def lock(self, owner: str) -> None:
        """Becomes the one writer; held until `close` or the end of this process, however it ends.

        Args:
            owner: such as ``host, process 123``; the store adds since when.

        Raises:
            RunLocked: another one is; names the owner it left (``host, process 123, since …``).
        """

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Transaction]:
        """Opens a transaction; it is durable when the block has ended.

        Raises:
            LockLost: another steering holds the lock now; nothing was written.
            StoreError: the database failed (disk full, connection lost); nothing was written, and the same
                transaction may be tried again.
        """

    # ------------------------------------------------------------ reading

    @abstractmethod
    def owner(self) -> Owner | None:
        """Who steers the run at this moment; None where nobody does."""

    @abstractmethod
    def models(self) -> list[ModelRecord]:
        """All models in the config's order."""

    @abstractmethod
    def iterations(self, model: str | None = None) -> list[IterationRecord]:
        """All iterations (of a model) in the order of model and number."""

    @abstractmethod
    def points(
        self,
        *,
        model: str | None = None,
        states: Iterable[PointState] | None = None,
        ids: Iterable[int] | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[PointRecord]:
        """Points by id, those with an id above `after`."""

    @abstractmethod
    def each_point(self, *, model: str | None = None, batch: int = 2000) -> Iterator[PointRecord]:
        """All points by id, read in batches."""

    @abstractmethod
    def attempts(self, point: int | None = None) -> list[AttemptRecord]:
        """All attempts (at a point), by point and number."""

    @abstractmethod
    def reports(self, points: int | Iterable[int] | None) -> list[ReportRecord]:
        """The reports of a point, of several or (None) of all, by point, attempt and step."""

    @abstractmethod
    def counts(self, model: str | None = None) -> Counts:
        """How many points are in which state."""

    @abstractmethod
    def close(self) -> None:
        """Gives the lock back and closes the database. May be called twice."""
