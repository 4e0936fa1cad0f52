"""Records to rows and back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hpo_steer.algorithm import Failure
from steering.store import tables
from steering.store.base import (
    AttemptRecord,
    Condition,
    IterationRecord,
    ModelRecord,
    PointRecord,
    ReportRecord,
    RunRecord,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Row = dict[str, Any]

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_decode = json.JSONDecoder().decode

# What a reader of points selects, in the order in which `to_points` takes it.
POINT_COLUMNS = tuple(column for column in tables.points.c if column.name != "experiment")


def to_json(data: Mapping[str, Any] | None) -> str | None:
    """Data as JSON text; None stays None."""
    if data is None:
        return None
    return _encode(data if type(data) is dict else dict(data))


def clean(text: str | None) -> str | None:
    """Text as every database takes it: NUL and lone surrogates are replaced."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def point_row(experiment: int, model: int, point: PointRecord) -> Row:
    """The row of a new point."""
    return {
        "experiment": experiment,
        "id": point.id,
        "model": model,
        "number": point.number,
        "iteration": point.iteration,
        "params": to_json(point.params),
        "hash": point.hash,
        "created_at": point.created_at,
        "parent": point.parent,
        **point_end(point),
    }


def point_end(point: PointRecord) -> Row:
    """The columns of a point that its evaluation changes."""
    failure = point.failure
    return {
        "state": point.state,
        "objectives": to_json(point.values),
        "metrics": to_json(point.metrics),
        "failure_kind": failure.kind if failure else None,
        "failure_message": clean(failure.message) if failure else None,
        "attempts": point.attempts,
        "lost": point.lost,
        "worker": clean(point.worker),
        "started_at": point.started_at,
        "ended_at": point.ended_at,
        "duration_s": point.duration_s,
        "told": point.told,
        "duplicate_of": point.duplicate_of,
        "forgiven": point.forgiven,
    }


def to_points(rows: Iterable[Any], names: Mapping[int, str]) -> list[PointRecord]:
    """Rows of `POINT_COLUMNS` as records; `names` are the models'."""
    records = []
    for (
        point, model, number, iteration, params, hash_, state, objectives, metrics, kind, message, attempts,
        lost, worker, created_at, started_at, ended_at, duration_s, told, duplicate_of, forgiven,
        parent,
    ) in rows:  # fmt: skip
        # The generated __init__ of a frozen dataclass sets 20 attributes one by one, at a third of the speed.
        record = object.__new__(PointRecord)
        record.__dict__.update(
            id=point,
            model=names[model],
            number=number,
            iteration=iteration,
            params=_decode(params),
            hash=hash_,
            state=state,
            values=None if objectives is None else _decode(objectives),
            metrics=None if metrics is None else _decode(metrics),
            failure=None if kind is None else Failure(kind, message),
            attempts=attempts,
            lost=lost,
            worker=worker,
            created_at=created_at,
            started_at=started_at,
            ended_at=ended_at,
            duration_s=duration_s,
            told=told,
            duplicate_of=duplicate_of,
            forgiven=forgiven,
            parent=parent,
        )
        records.append(record)
    return records


def attempt_row(experiment: int, attempt: AttemptRecord) -> Row:
    """The row of an attempt."""
    return {
        "experiment": experiment,
        "point": attempt.point,
        "attempt": attempt.attempt,
        "worker": clean(attempt.worker),
        "slot": attempt.slot,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "duration_s": attempt.duration_s,
        "outcome": attempt.outcome,
        "message": clean(attempt.message),
        "log": clean(attempt.log),
        "gpus": _encode(attempt.gpus) if attempt.gpus else None,
    }


def to_attempt(row: Any) -> AttemptRecord:
    """An attempt from a whole row."""
    attempt = AttemptRecord(*row[1:-1])
    return replace(attempt, gpus=tuple(_decode(row[-1]))) if row[-1] is not None else attempt


def report_row(experiment: int, report: ReportRecord) -> Row:
    """The row of a report."""
    return {
        "experiment": experiment,
        "point": report.point,
        "attempt": report.attempt,
        "step": report.step,
        "metrics": to_json(report.metrics),
        "at": report.at,
    }


def to_report(row: Any) -> ReportRecord:
    """A report from a whole row."""
    return ReportRecord(row.point, row.attempt, row.step, _decode(row.metrics), row.at)


def iteration_row(experiment: int, model: int, iteration: IterationRecord) -> Row:
    """The row of an iteration."""
    return {
        "experiment": experiment,
        "model": model,
        "number": iteration.number,
        "wanted": iteration.wanted,
        "size": iteration.size,
        "told": iteration.told,
        "asked_at": iteration.asked_at,
        "ask_s": iteration.ask_s,
        "origin": iteration.origin,
        "note": clean(iteration.note),
    }


def to_iteration(row: Any, names: Mapping[int, str]) -> IterationRecord:
    """An iteration from a whole row."""
    return IterationRecord(names[row.model], *row[2:])


def model_row(experiment: int, model: ModelRecord) -> Row:
    """The row of a model."""
    return {"experiment": experiment, "number": model.number, "name": model.name, "ended": model.ended}


def run_row(run: RunRecord) -> Row:
    """The columns of an experiment that its record knows."""
    return {
        "name": run.name,
        "run": run.run,
        "config": to_json(run.config),
        "created_at": run.created_at,
        "elapsed_s": run.elapsed_s,
        "ended": run.ended,
        "ended_at": run.ended_at,
    }


def to_run(row: Any) -> RunRecord:
    """A run from its row."""
    return RunRecord(
        row.name,
        row.run,
        _decode(row.config),
        row.created_at,
        row.elapsed_s,
        row.ended,
        row.ended_at,
        None if row.condition is None else _condition(_decode(row.condition)),
    )


def _condition(data: dict[str, Any]) -> Condition:
    return Condition(**{**data, "fleet": tuple(data.get("fleet", ()))})
