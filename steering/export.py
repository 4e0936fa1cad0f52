"""The points of a run as a table: one row a point."""

from __future__ import annotations

import csv
import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from hpo_steer.errors import MissingExtra, UserError
from steering.run_view import RunView, finite, point_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

Row = dict[str, Any]

_FIRST = ("id", "model", "iteration", "state")
_LAST = ("attempts", "worker", "created_at", "started_at", "ended_at", "duration_s", "duplicate_of", "parent")
"""Columns at both ends of a row, the same as the keys of `point_json`."""


def table(view: RunView, model: str | None = None) -> tuple[list[str], list[Row]]:
    """The columns and the rows.

    The columns do not depend on how far the run is, but for the further metrics that trainings returned.
    """
    points = view.points_of(model)
    models = [m.name for m in view.models] if model is None else [model]
    goals = list(view.experiment.measured)
    params = _unique(p.name for name in models for p in view.space(name))
    metrics = _unique(m for point in points for m in point.metrics or {} if m not in goals)
    columns = [
        *_FIRST,
        *(f"values.{name}" for name in goals),
        *(f"params.{name}" for name in params),
        *(f"metrics.{name}" for name in metrics),
        *("feasible", "failure.kind", "failure.message"),
        *_LAST,
    ]
    return columns, [_row(point_json(point, view.outcomes), goals, params, metrics) for point in points]


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _row(point: Mapping[str, Any], goals: list[str], params: list[str], metrics: list[str]) -> Row:
    failure = point["failure"] or {}
    values, measured = point["values"] or {}, point["metrics"] or {}
    return {
        **{name: point[name] for name in _FIRST},
        **{f"values.{name}": values.get(name) for name in goals},
        **{f"params.{name}": _cell(point["params"].get(name)) for name in params},
        **{f"metrics.{name}": measured.get(name) for name in metrics},
        "feasible": point["feasible"],
        "failure.kind": failure.get("kind"),
        "failure.message": failure.get("message"),
        **{name: point[name] for name in _LAST},
    }


def _cell(value: Any) -> Any:
    """Lists and mappings, which some choices are, become their JSON text."""
    return json.dumps(value, sort_keys=True) if isinstance(value, (list, dict)) else value


def export_points(
    view: RunView, kind: str, output: Path | None, *, model: str | None = None, force: bool = False
) -> int:
    """Writes the table.

    Args:
        view: the run.
        kind: ``csv``, ``json`` (a list of objects) or ``parquet``.
        output: the file; None: standard output.
        model: only this model's points.
        force: overwrite the file.

    Returns:
        How many rows were written.

    Raises:
        UserError: the file exists or cannot be written; there is no such model.
        MissingExtra: Parquet needs an extra that is not installed.
    """
    if kind == "parquet" and output is None:
        raise UserError("parquet goes to a file: name it with --output FILE.parquet")
    if kind == "parquet":
        _arrow()
    if output is not None and output.exists() and not force:
        raise UserError(f"{output} exists; --force overwrites it")
    columns, rows = table(view, model)
    if output is None:
        _WRITERS[kind](sys.stdout, columns, rows)
        return len(rows)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        if kind == "parquet":
            _parquet(partial, columns, rows)
        else:
            with partial.open("w", encoding="utf-8", newline="") as stream:
                _WRITERS[kind](stream, columns, rows)
        partial.replace(output)
    except OSError as exc:
        raise UserError(f"{output} cannot be written: {exc.strerror or exc}") from exc
    finally:
        partial.unlink(missing_ok=True)
    return len(rows)


def _csv(stream: TextIO, columns: list[str], rows: list[Row]) -> None:
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _json(stream: TextIO, _columns: list[str], rows: list[Row]) -> None:
    json.dump(finite(rows), stream, indent=1, ensure_ascii=False, allow_nan=False)
    stream.write("\n")


_WRITERS: dict[str, Callable[[TextIO, list[str], list[Row]], None]] = {"csv": _csv, "json": _json}


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as exc:
        raise MissingExtra("export to Parquet", "parquet") from exc
    return pyarrow


def _parquet(path: Path, columns: list[str], rows: list[Row]) -> None:
    arrow = _arrow()
    data = {name: _array(arrow, [row[name] for row in rows]) for name in columns}
    arrow.parquet.write_table(arrow.table(data), path)


def _array(arrow: Any, values: list[Any]) -> Any:
    """A column of one type: where a parameter's choices are of several, their JSON texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return arrow.array(
            values, type=arrow.float64() if float in kinds else arrow.int64() if kinds else None
        )
    if len(kinds) == 1:
        return arrow.array(values)
    return arrow.array([None if v is None else v if isinstance(v, str) else json.dumps(v) for v in values])
