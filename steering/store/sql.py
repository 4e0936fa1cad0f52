"""The store in a SQL database."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from hpo_steer.errors import LockLost, NoSuchRun, RunLocked, StoreError
from steering.store import rows
from steering.store.base import Counts, ModelRecord, Owner, PointState, Store
from steering.store.tables import OF_AN_EXPERIMENT, attempts, experiments, iterations, models, points, reports
from steering.store.writing import SqlTransaction, Statements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Select

    from steering.store.base import (
        AttemptRecord,
        IterationRecord,
        PointRecord,
        ReportRecord,
        RunRecord,
        Transaction,
    )
    from steering.store.database import Database

STATES: tuple[PointState, ...] = get_args(PointState)
UNFINISHED: frozenset[PointState] = frozenset({"queued", "running"})
IDS_AT_ONCE = 1000
T = TypeVar("T")


class SqlStore(Store):
    """One experiment in a database whose tables are there (see `steering.store.opening.open_store`).

    Args:
        database: open; the store closes it.
        name: of the experiment.
        clock: seconds since the epoch.
    """

    def __init__(self, database: Database, name: str, *, clock: Callable[[], float] = time.time) -> None:
        self._database, self._name, self._clock = database, name, clock
        self._statements = Statements(database.insert)
        self._one_at_a_time = threading.Lock()
        self._id: int | None = None
        self._numbers: dict[str, int] = {}  # of the models, by name
        self._names: dict[int, str] = {}
        self._owner: str | None = None  # set while this store has the lock
        self._fence: int | None = None  # of the experiment's row, once there is one and the lock is held
        self._commits = 0
        self._doubtful: SqlTransaction | None = None  # its commit failed, and may have happened all the same

    # ------------------------------------------------------------ the run

    def create(self, run: RunRecord, models: Sequence[ModelRecord]) -> None:
        """See `Store.create`."""
        row = {**rows.run_row(run), "owner": self._owner, "fence": 1, "commits": 0}
        if self._owner is not None:
            row["locked_at"] = self._clock()
        with self._one_at_a_time:
            try:
                with self._database.writing() as connection:
                    connection.execute(insert(experiments), row)
                    experiment = connection.execute(
                        select(experiments.c.id).where(experiments.c.name == self._name)
                    ).scalar_one()
                    self._insert_models(connection, experiment, models)
            except StoreError as exc:
                if isinstance(exc.__cause__, IntegrityError):
                    raise StoreError(
                        f'the store {self._database.where} has a run named "{self._name}" already'
                    ) from exc
                raise
            self._id, self._commits, self._doubtful = experiment, 0, None
            self._fence = 1 if self._owner is not None else None
            self._forget_models()

    def run(self) -> RunRecord | None:
        """See `Store.run`."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(experiments).where(experiments.c.name == self._name)
            ).one_or_none()
        if row is None:
            return None
        if row.id != self._id and self._fence is None:
            self._id = row.id
            self._forget_models()
        return rows.to_run(row)

    def add_models(self, models: Sequence[ModelRecord]) -> None:
        """See `Store.add_models`."""
        experiment = self._experiment()
        self._need_lock()
        with self._one_at_a_time, self._database.writing() as connection:
            self._check_fence(connection)
            self._insert_models(connection, experiment, models)
        self._forget_models()

    def delete(self) -> None:
        """See `Store.delete`; where this store has no lock, it takes it for as long as that lasts.

        Raises:
            RunLocked: another steering runs it.
        """
        borrowed = self._owner is None
        if borrowed:
            self.lock("someone who deletes it")
        try:
            if self.run() is None:
                return
            experiment = self._experiment()
            with self._one_at_a_time, self._database.writing() as connection:
                self._check_fence(connection)
                for table in OF_AN_EXPERIMENT:
                    connection.execute(delete(table).where(table.c.experiment == experiment))
                connection.execute(delete(experiments).where(experiments.c.id == experiment))
            self._id = self._fence = self._doubtful = None
            self._forget_models()
        finally:
            if borrowed:
                self._unlock()

    def _insert_models(self, connection: Connection, experiment: int, models_: Sequence[ModelRecord]) -> None:
        if models_:
            connection.execute(insert(models), [rows.model_row(experiment, model) for model in models_])

    def _forget_models(self) -> None:
        """Their names are read anew when they are needed."""
        self._names, self._numbers = {}, {}

    def _experiment(self) -> int:
        if self._id is None and (self.run() is None or self._id is None):
            raise NoSuchRun(f'there is no run named "{self._name}" in {self._database.where}')
        return self._id

    def _model_number(self, name: str) -> int:
        if name not in self._numbers:
            self.models()
        try:
            return self._numbers[name]
        except KeyError:
            raise StoreError(f'the run "{self._name}" has no model named "{name}"') from None

    # ------------------------------------------------------------ one writer

    def lock(self, owner: str) -> None:
        """See `Store.lock`."""
        if self._owner is not None:
            return
        if not self._database.claim():
            raise RunLocked(self._locked_by_another())
        try:
            with self._one_at_a_time, self._database.writing() as connection:
                self._id = connection.execute(
                    select(experiments.c.id).where(experiments.c.name == self._name)
                ).scalar_one_or_none()
                self._fence = None
                if self._id is not None:
                    mine = experiments.c.id == self._id
                    connection.execute(
                        update(experiments)
                        .where(mine)
                        .values(fence=experiments.c.fence + 1, owner=owner, locked_at=self._clock())
                    )
                    row = connection.execute(
                        select(experiments.c.fence, experiments.c.commits).where(mine)
                    ).one()
                    self._fence, self._commits = row
        except BaseException:
            self._database.release()
            raise
        self._owner, self._doubtful = owner, None
        self._forget_models()

    def _locked_by_another(self) -> str:
        with self._database.reading() as connection:
            row = connection.execute(
                select(experiments.c.owner, experiments.c.locked_at).where(experiments.c.name == self._name)
            ).one_or_none()
        text = f"{self._name} is already being run"
        if row is not None and row.owner:
            since = datetime.fromtimestamp(row.locked_at).astimezone()
            today = datetime.fromtimestamp(self._clock()).astimezone().date()
            text += f" by {row.owner}, since {since:{'%H:%M' if since.date() == today else '%Y-%m-%d %H:%M'}}"
        return text + "; wait until it ends, or stop it there (Ctrl-C) and start again"

    def _unlock(self) -> None:
        """Takes our name out of the row, where that can be done, and gives the lock back."""
        if self._owner is None:
            return
        try:
            if self._fence is not None:
                with self._one_at_a_time, self._database.writing() as connection:
                    connection.execute(
                        update(experiments)
                        .where(experiments.c.id == self._id, experiments.c.fence == self._fence)
                        .values(owner=None, locked_at=None)
                    )
        except StoreError:
            pass  # the name is only for messages
        finally:
            self._owner = self._fence = None
            self._database.release()

    def _need_lock(self) -> None:
        if self._owner is None:
            raise RuntimeError("only the store that has the lock may write: call lock() first")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See `Store.transaction`."""
        self._need_lock()
        changes = SqlTransaction(self._experiment(), self._model_number, self._clock)
        yield changes
        with self._one_at_a_time:
            self._write(changes)

    def _write(self, changes: SqlTransaction) -> None:
        committing = False
        try:
            with self._database.writing() as connection:
                commits = self._check_fence(connection)
                if changes.empty or self._written_after_all(changes, commits):
                    return
                experiment = self._experiment()
                self._statements.write(connection, experiment, changes)
                connection.execute(
                    update(experiments).where(experiments.c.id == experiment).values(commits=commits + 1)
                )
                committing = True
        except StoreError:
            if committing:
                self._doubtful = changes
            raise
        self._commits = commits + 1
        self._doubtful = None

    def _check_fence(self, connection: Connection) -> int:
        """Makes sure that this store is still the writer; returns how many transactions were committed."""
        row = connection.execute(
            select(experiments.c.fence, experiments.c.commits)
            .where(experiments.c.id == self._id)
            .with_for_update()
        ).one_or_none()
        if row is None or row.fence != self._fence:
            raise LockLost(
                f"{self._name} was taken over by another steering process; this one writes nothing more"
            )
        return int(row.commits)

    def _written_after_all(self, changes: SqlTransaction, commits: int) -> bool:
        """Whether `changes` is the transaction whose commit seemed to fail, and was written all the same."""
        doubtful, self._doubtful = self._doubtful, None
        if doubtful is None or commits == self._commits:
            return False
        self._commits = commits
        if not changes.same_as(doubtful):
            raise StoreError(
                f"the connection to {self._database.where} was lost in the middle of a commit, which had "
                "been made after all: start again"
            )
        return True

    # ------------------------------------------------------------ reading

    def owner(self) -> Owner | None:
        """See `Store.owner`."""
        with self._database.reading() as connection:
            row = connection.execute(
                select(experiments.c.owner, experiments.c.locked_at).where(experiments.c.name == self._name)
            ).one_or_none()
            if row is None or not row.owner or not self._database.claimed(connection):
                return None
        return Owner(row.owner, row.locked_at)

    def models(self) -> list[ModelRecord]:
        """See `Store.models`."""
        experiment = self._experiment()
        with self._database.reading() as connection:
            found = connection.execute(
                select(models).where(models.c.experiment == experiment).order_by(models.c.number)
            ).all()
        self._names = {row.number: row.name for row in found}
        self._numbers = {row.name: row.number for row in found}
        return [ModelRecord(row.name, row.number, row.ended) for row in found]

    def iterations(self, model: str | None = None) -> list[IterationRecord]:
        """See `Store.iterations`."""
        query = (
            select(iterations)
            .where(iterations.c.experiment == self._experiment())
            .order_by(iterations.c.model, iterations.c.number)
        )
        if model is not None:
            query = query.where(iterations.c.model == self._model_number(model))
        found = self._all(query)
        return self._named(lambda names: [rows.to_iteration(row, names) for row in found])

    def points(
        self,
        *,
        model: str | None = None,
        states: Iterable[PointState] | None = None,
        ids: Iterable[int] | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[PointRecord]:
        """See `Store.points`."""
        c = points.c
        query = select(*rows.POINT_COLUMNS).where(c.experiment == self._experiment())
        by: ColumnElement[int] = c.id
        if states is not None:
            states = sorted(states)
            query = query.where(c.state.in_(states))
            # Few points are unfinished: find them by state and sort them. (Asked for them by id, SQLite goes
            # through all points in that order.)
            by = c.id + 0 if UNFINISHED.issuperset(states) else by
        query = query.where(by > after).order_by(by)
        if model is not None:
            query = query.where(c.model == self._model_number(model))
        if ids is None:
            found = self._all(query.limit(limit))
        else:
            found = []
            wanted = iter(sorted({point for point in ids if point > after}))
            while (limit is None or len(found) < limit) and (some := list(islice(wanted, IDS_AT_ONCE))):
                found += self._all(query.where(c.id.in_(some)))
            found = found[:limit]
        return self._named(lambda names: rows.to_points(found, names))

    def each_point(self, *, model: str | None = None, batch: int = 2000) -> Iterator[PointRecord]:
        """See `Store.each_point`."""
        after = 0
        while some := self.points(model=model, after=after, limit=batch):
            yield from some
            after = some[-1].id

    def attempts(self, point: int | None = None) -> list[AttemptRecord]:
        """See `Store.attempts`."""
        c = attempts.c
        query = select(attempts).where(c.experiment == self._experiment()).order_by(c.point, c.attempt)
        if point is not None:
            query = query.where(c.point == point)
        return [rows.to_attempt(row) for row in self._all(query)]

    def reports(self, points: int | Iterable[int] | None) -> list[ReportRecord]:
        """See `Store.reports`."""
        c = reports.c
        query = select(reports).where(c.experiment == self._experiment()).order_by(c.point, c.attempt, c.step)
        if points is None:
            return [rows.to_report(row) for row in self._all(query)]
        wanted = iter([points] if isinstance(points, int) else sorted(set(points)))
        found = []
        while some := list(islice(wanted, IDS_AT_ONCE)):
            found += [rows.to_report(row) for row in self._all(query.where(c.point.in_(some)))]
        return found

    def counts(self, model: str | None = None) -> Counts:
        """See `Store.counts`."""
        c = points.c
        # Grouped and restricted just so, the index hpo_points_by_state answers alone and in its own order.
        groups = (c.state, c.model, c.failure_kind)
        query = (
            select(*groups, func.count(), func.count(c.duplicate_of))
            .where(c.experiment == self._experiment(), c.state.in_(STATES))
            .group_by(*groups)
        )
        if model is not None:
            query = query.where(c.model == self._model_number(model))
        numbers = dict.fromkeys(STATES, 0)
        failed: dict[str, int] = {}
        duplicates = 0
        for state, _, kind, number, taken_over in self._all(query):
            numbers[state] += number
            if state == "failed":
                failed[kind] = failed.get(kind, 0) + number
            elif state == "done":
                duplicates += taken_over
        return Counts(numbers["queued"], numbers["running"], numbers["done"], failed, duplicates)

    def _all(self, query: Select[Any]) -> list[Any]:
        with self._database.reading() as connection:
            return list(connection.execute(query))

    def _named(self, convert: Callable[[Mapping[int, str]], T]) -> T:
        """Converts rows with the models' names, which are read again where one is new."""
        try:
            return convert(self._names)
        except KeyError:
            self.models()
            return convert(self._names)

    def close(self) -> None:
        """See `Store.close`."""
        self._unlock()
        self._database.close()
