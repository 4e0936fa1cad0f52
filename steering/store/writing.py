"""Gathers the changes of a transaction and writes them in a few statements."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import and_, bindparam, case, insert, literal_column, null, update

from steering.store import rows
from steering.store.base import AttemptRecord, IterationRecord, PointRecord, ReportRecord, Transaction
from steering.store.tables import attempts, experiments, iterations, models, points, reports

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Table

    from steering.store.base import Condition
    from steering.store.rows import Row


@dataclass
class Gathered:
    """Rows that can be written kind after kind, in the order of the attributes."""

    iterations: list[Row] = field(default_factory=list)
    points: list[Row] = field(default_factory=list)
    begun: dict[tuple[int, int], Row] = field(default_factory=dict)
    ended: dict[tuple[int, int], Row] = field(default_factory=dict)
    reopened: list[Row] = field(default_factory=list)
    logs: list[Row] = field(default_factory=list)
    running: list[Row] = field(default_factory=list)
    requeued: list[Row] = field(default_factory=list)
    finished: list[Row] = field(default_factory=list)
    reports: dict[tuple[int, int, int], Row] = field(default_factory=dict)


class SqlTransaction(Transaction):
    """Changes in memory; `Statements.write` brings them into the database.

    A point that starts again after it was sent out again, all in one transaction, begins another round:
    within a round the kinds of changes are written in a fixed order.

    Args:
        experiment: its number in the database.
        model_number: finds a model's number by its name.
        now: the time, for an end of the run.
    """

    def __init__(self, experiment: int, model_number: Callable[[str], int], now: Callable[[], float]) -> None:
        self._experiment, self._model_number, self._now = experiment, model_number, now
        self.rounds = [Gathered()]
        self.models: dict[int, Row] = {}
        self.run: Row = {}
        self._stage: dict[
            int, int
        ] = {}  # of each point in the latest round: 0 reopened, 1 started, 2 sent out again, 3 ended

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.run and not self.models and self.rounds == [Gathered()]

    def same_as(self, other: SqlTransaction) -> bool:
        """Whether it would write the very same rows."""
        return (self.rounds, self.models, self.run) == (other.rounds, other.models, other.run)

    def add_iteration(self, iteration: IterationRecord, points: Sequence[PointRecord]) -> None:
        """See `Transaction.add_iteration`."""
        model = self._model_number(iteration.model)
        self._round.iterations.append(rows.iteration_row(self._experiment, model, iteration))
        self._round.points += [rows.point_row(self._experiment, model, point) for point in points]

    def start_attempt(self, attempt: AttemptRecord) -> None:
        """See `Transaction.start_attempt`."""
        now = self._at(attempt.point, 1)
        now.begun[attempt.point, attempt.attempt] = rows.attempt_row(self._experiment, attempt)
        now.running.append(
            {
                **self._key(attempt.point),
                "b_attempt": attempt.attempt,
                "worker": rows.clean(attempt.worker),
                "started_at": attempt.started_at,
            }
        )

    def end_attempt(self, attempt: AttemptRecord) -> None:
        """See `Transaction.end_attempt`."""
        self._round.ended[attempt.point, attempt.attempt] = rows.attempt_row(self._experiment, attempt)

    def requeue_point(self, point: int, attempts: int, lost: int, forgiven: int = 0) -> None:
        """See `Transaction.requeue_point`."""
        spent = {"attempts": attempts, "lost": lost, "forgiven": forgiven}
        self._at(point, 2).requeued.append({**self._key(point), **spent})

    def reopen_point(self, point: int) -> None:
        """See `Transaction.reopen_point`."""
        self._at(point, 0).reopened.append(self._key(point))

    def add_log(self, point: int, attempt: int, log: str) -> None:
        """See `Transaction.add_log`."""
        self._round.logs.append({**self._key(point), "b_attempt": attempt, "log": rows.clean(log)})

    def end_point(self, point: PointRecord) -> None:
        """See `Transaction.end_point`."""
        if point.state not in {"done", "failed"}:
            raise ValueError(f'point {point.id} has not ended: its state is "{point.state}"')
        self._at(point.id, 3).finished.append({**self._key(point.id), **rows.point_end(point)})

    def add_report(self, report: ReportRecord) -> None:
        """See `Transaction.add_report`."""
        key = report.point, report.attempt, report.step
        self._round.reports[key] = rows.report_row(self._experiment, report)

    def end_model(self, model: str, reason: str | None) -> None:
        """See `Transaction.end_model`."""
        number = self._model_number(model)
        self.models[number] = {**self._key(number), "ended": rows.clean(reason)}

    def set_run(
        self,
        *,
        elapsed_s: float | None = None,
        ended: str | Literal[False] | None = False,
        config: Any = None,
        condition: Condition | None = None,
    ) -> None:
        """See `Transaction.set_run`."""
        if elapsed_s is not None:
            self.run["elapsed_s"] = elapsed_s
        if ended is not False:
            self.run["ended"] = rows.clean(ended)
            self.run["ended_at"] = None if ended is None else self._now()
        if config is not None:
            self.run["config"] = rows.to_json(config)
        if condition is not None:
            self.run["condition"] = rows.clean(rows.to_json(asdict(condition)))

    @property
    def _round(self) -> Gathered:
        return self.rounds[-1]

    def _key(self, number: int) -> Row:
        return {"b_experiment": self._experiment, "b_id": number}

    def _at(self, point: int, stage: int) -> Gathered:
        if self._stage.get(point, 0) > stage:
            self.rounds.append(Gathered())
            self._stage.clear()
        self._stage[point] = stage
        return self._round


class Statements:
    """Every statement that writes, made once.

    Args:
        upsert: the dialect's INSERT with ON CONFLICT.
    """

    def __init__(self, upsert: Callable[[Table], Any]) -> None:
        this_point = and_(points.c.experiment == bindparam("b_experiment"), points.c.id == bindparam("b_id"))
        # As a negation no index answers it, so that PostgreSQL, with no statistics yet, goes by id.
        unfinished = points.c.state.not_in([literal_column("'done'"), literal_column("'failed'")])
        self._running = (
            update(points)
            .where(this_point, unfinished)
            .values(
                state=literal_column("'running'"),
                attempts=case(
                    (points.c.attempts < bindparam("b_attempt"), bindparam("b_attempt")),
                    else_=points.c.attempts,
                ),
            )
        )
        self._requeued = update(points).where(this_point, unfinished).values(state=literal_column("'queued'"))
        self._finished = update(points).where(this_point, unfinished)
        gone = ("failure_kind", "failure_message", "told", "duplicate_of", "ended_at", "duration_s", "worker")
        self._reopened = (
            update(points)
            .where(this_point, points.c.state == literal_column("'failed'"))
            .values(
                {
                    "state": literal_column("'queued'"),
                    "forgiven": points.c.attempts,
                    "lost": literal_column("0"),
                    "started_at": null(),
                    **dict.fromkeys(gone, null()),
                }
            )
        )
        self._logs = update(attempts).where(
            attempts.c.experiment == bindparam("b_experiment"),
            attempts.c.point == bindparam("b_id"),
            attempts.c.attempt == bindparam("b_attempt"),
            attempts.c.log == "",
        )
        self._begun = _replacing(upsert, attempts, attempts.c.outcome.is_(None))
        self._ended = _replacing(upsert, attempts)
        self._reports = _replacing(upsert, reports)
        self._models = update(models).where(
            models.c.experiment == bindparam("b_experiment"), models.c.number == bindparam("b_id")
        )

    def write(self, connection: Connection, experiment: int, changes: SqlTransaction) -> None:
        """Writes all changes; the caller commits.

        Raises:
            ValueError: a point has ended already, or there is none of that id.
        """
        for now in changes.rounds:
            _many(connection, insert(iterations), now.iterations)
            _many(connection, insert(points), now.points)
            _exactly(connection, self._reopened, now.reopened)
            _many(connection, self._begun, list(now.begun.values()))
            _many(connection, self._ended, list(now.ended.values()))
            _many(connection, self._logs, now.logs)
            _many(connection, self._running, now.running)
            _exactly(connection, self._requeued, now.requeued)
            _exactly(connection, self._finished, now.finished)
            _many(connection, self._reports, list(now.reports.values()))
        _many(connection, self._models, list(changes.models.values()))
        if changes.run:
            connection.execute(update(experiments).where(experiments.c.id == experiment).values(changes.run))


def _replacing(upsert: Callable[[Table], Any], table: Table, condition: Any = None) -> Any:
    new = upsert(table)
    keys = list(table.primary_key.columns)
    changed = {column.name: new.excluded[column.name] for column in table.columns if not column.primary_key}
    return new.on_conflict_do_update(index_elements=keys, set_=changed, where=condition)


def _many(connection: Connection, statement: Any, many: Sequence[Mapping[str, Any]]) -> int:
    return connection.execute(statement, many).rowcount if many else 0


def _exactly(connection: Connection, statement: Any, many: Sequence[Mapping[str, Any]]) -> None:
    if many and _many(connection, statement, many) != len(many):
        ids = ", ".join(str(row["b_id"]) for row in many[:10])
        raise ValueError(
            f"of the points {ids} one is not in that state, or not in the store; nothing was written"
        )
