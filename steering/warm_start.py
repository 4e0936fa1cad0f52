"""What is known before a search begins: points from the config, from CSV files and from earlier runs.

A point whose values are known is told to the algorithm and never evaluated. One without values is a guess: the guesses
are the first points that are evaluated.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import ConfigError, OutsideSpace, UserError, nearest
from hpo_steer.limits import SEM
from hpo_steer.outcomes import standard_errors
from hpo_steer.parameters import Categorical, Float, Int, Parameter
from steering.budget import Budgets
from steering.run_view import is_run, open_view
from steering.store.base import IterationRecord, Origin, PointRecord
from steering.words import plural

if TYPE_CHECKING:
    from hpo_steer.config import Experiment, LoadedConfig, Model
    from hpo_steer.space import Params, SearchSpace
    from steering.store.base import Store

_KEY = "warm_start"
_KNOWN: Origin = "known"
_GUESS: Origin = "guess"
_SOURCE_KEYS = ("run", "csv", "set", "best")


@dataclass(frozen=True)
class Row:
    """A point somewhere else, on its way into this search.

    Attributes:
        where: that it comes from, for messages.
        params: as they were there.
        values: of everything measured; empty for a guess.
        budget: the parameter that said there how long a point was trained, if one did.
        lacking: what the point was trained for less than others of its model there.
    """

    where: str
    params: Mapping[str, Any]
    values: Mapping[str, float]
    budget: str | None = None
    lacking: float = 0.0


@dataclass
class Start:
    """What a model's search begins with.

    Attributes:
        known: points with their values, as `PointRecord.params` and `PointRecord.metrics`.
        guesses: points to be evaluated first.
        notes: sentences for the user.
    """

    known: list[tuple[Params, dict[str, float]]] = field(default_factory=list)
    guesses: list[Params] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_starts(config: LoadedConfig) -> dict[str, Start]:
    """Reads ``warm_start`` for each model.

    Raises:
        ConfigError: a source cannot be read, or nothing of it fits.
    """
    experiment = config.experiment
    starts = {}
    runs: dict[str, _Run] = {}
    for model in experiment.models:
        reader = _Reader(experiment, model, config.folder, runs)
        for number, entry in enumerate(experiment.warm_start):
            try:
                reader.take(entry, number)
            except ConfigError as exc:
                raise exc.at(config.source.where(exc.key)) from None
        starts[model.name] = reader.start
    return starts


def write_starts(
    store: Store,
    experiment: Experiment,
    starts: Mapping[str, Start],
    now: float,
    notify: Callable[[str, str], None],
) -> None:
    """Writes them down: known points as iteration 0, guesses as iteration 1."""
    last = 0
    with store.transaction() as transaction:
        for model in experiment.models:
            start, space = starts[model.name], experiment.space(model)
            for note in start.notes:
                notify("known", f"{model.name}: {note}" if len(experiment.models) > 1 else note)
            chosen = [params for params, _ in start.known] + start.guesses[: experiment.steering.point_limit]
            size = len(start.known)
            records = [
                PointRecord(
                    last + number + 1,
                    model.name,
                    number,
                    int(number >= size),
                    params,
                    space.hash(params),
                    created_at=now,
                )
                for number, params in enumerate(chosen)
            ]
            last += len(records)
            for iteration, origin, part in ((0, _KNOWN, records[:size]), (1, _GUESS, records[size:])):
                if part:
                    told = iteration * size
                    transaction.add_iteration(
                        IterationRecord(model.name, iteration, len(part), len(part), told, now, 0.0, origin),
                        part,
                    )
            for record, (_, metrics) in zip(records, start.known, strict=False):
                values = {name: metrics[name] for name in experiment.measured}
                ended = replace(record, state="done", values=values, metrics=metrics, ended_at=now)
                transaction.end_point(replace(ended, told=record.number + 1))


@dataclass(frozen=True)
class _Run:
    """An earlier run: its models, its points with values, and how long these were trained."""

    models: list[str]
    points: list[PointRecord]
    budgets: Budgets


class _Reader:
    """Reads the sources for one model.

    Args:
        experiment: the config.
        model: which.
        folder: that sources are named relative to.
        runs: those that were read, by their names here; shared by all models.
    """

    def __init__(
        self,
        experiment: Experiment,
        model: Model,
        folder: Path,
        runs: dict[str, _Run],
    ) -> None:
        self._experiment, self._model, self._folder, self._runs = experiment, model, folder, runs
        self._space: SearchSpace = experiment.space(model)
        self._goals = [goal.name for goal in experiment.goals]
        self.start = Start()
        self._seen: set[str] = set()

    def take(self, entry: Any, number: int) -> None:
        """Adds what one entry of the config brings.

        Raises:
            ConfigError: names the entry and the remedy.
        """
        key = f"{_KEY}[{number}]"
        if isinstance(entry, str):
            entry = {"csv" if entry.lower().endswith(".csv") else "run": entry}
        if not isinstance(entry, Mapping) or not entry:
            raise ConfigError(key, f"is a run, a CSV file, or a point like {self._example()}, got {entry!r}")
        if "run" in entry or "csv" in entry:
            self._source(entry, key)
        else:
            self._point(entry, key)

    # ------------------------------------------------------------ one point

    def _example(self) -> str:
        first = self._space.parameters[0]
        return f"{{{first.name}: {first.decode(0.5)!r}, {self._goals[0]}: 0.1}}"

    def _point(self, entry: Mapping[str, Any], key: str) -> None:
        measured = [name for name in self._experiment.measured if name in entry]
        params = {str(k): v for k, v in entry.items() if k not in measured and not str(k).endswith(SEM)}
        metrics = {str(k): v for k, v in entry.items() if k in measured or str(k).endswith(SEM)}
        if measured and (missing := [n for n in self._experiment.measured if n not in measured]):
            raise ConfigError(
                key, f'lacks "{missing[0]}": give all values of a known point, or none of a guess'
            )
        for name, value in metrics.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ConfigError(key, f'"{name}" is {value!r}; expected a finite number')
        try:
            valid = self._space.validate(params)
        except OutsideSpace as exc:
            raise ConfigError(key, f"is no point of the search space: {exc}") from None
        self._add(valid, {name: float(value) for name, value in metrics.items()} if measured else None)

    def _add(self, params: Params, metrics: dict[str, float] | None) -> bool:
        """Adds a point unless an equal one is there already."""
        hash_ = self._space.hash(params)
        if hash_ in self._seen and (metrics is None or self._experiment.steering.duplicates != "replicate"):
            return False
        self._seen.add(hash_)
        if metrics is None:
            self.start.guesses.append(params)
        else:
            self.start.known.append((params, metrics))
        return True

    # ------------------------------------------------------------ a file or a run

    def _source(self, entry: Mapping[str, Any], key: str) -> None:
        for name in entry:
            if name not in _SOURCE_KEYS:
                raise ConfigError(f"{key}.{name}", f"unknown key; {nearest(str(name), _SOURCE_KEYS)}")
        if "run" in entry and "csv" in entry:
            raise ConfigError(key, "names a run and a CSV file; make two entries of it")
        best = entry.get("best")
        if best is not None and (isinstance(best, bool) or not isinstance(best, int) or best < 1):
            raise ConfigError(f"{key}.best", f"is a whole number of 1 or more, got {best!r}")
        fixed = self._fixed(entry, key)
        place = str(entry.get("run", entry.get("csv")))
        rows = list(self._run(place, key) if "run" in entry else self._csv(place, key))
        if not rows:
            raise ConfigError(key, f"{place} holds no point with values; drop it")
        whole = [row for row in rows if best is not None or self._comparable(row)]
        fitting = self._fitting(whole, fixed, key, place)
        if best is None:
            taken = sum(self._add(params, dict(row.values)) for row, params in fitting)
            what = "known"
        else:
            ranked = sorted(fitting, key=lambda pair: (pair[0].lacking, *self._loss(pair[0])))
            taken = 0
            for _, params in ranked:
                taken += taken < best and self._add(params, None)
            what = "evaluated first"
        text = f"{plural(taken, 'point')} of {place} {'is' if taken == 1 else 'are'} {what}"
        if short := len(rows) - len(whole):
            text += f"; {short} of {len(rows)} were trained less than others there"
        if left := len(whole) - len(fitting):
            text += f"; {left} of {len(rows)} do not fit the search space"
        self.start.notes.append(text)

    def _fixed(self, entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        fixed = entry.get("set") or {}
        if not isinstance(fixed, Mapping):
            raise ConfigError(f"{key}.set", f"is a mapping of parameters to values, got {fixed!r}")
        known = [p.name for p in self._space]
        for name in fixed:
            if name not in known:
                raise ConfigError(
                    f"{key}.set.{name}", f"there is no such parameter; {nearest(str(name), known)}"
                )
        return fixed

    def _fitting(
        self, rows: list[Row], fixed: Mapping[str, Any], key: str, place: str
    ) -> list[tuple[Row, Params]]:
        """The rows that are points of this space, with what it does not know left out and `fixed` filled in."""
        found, reason = [], ""
        for row in rows:
            params = {p.name: row.params[p.name] for p in self._space if p.name in row.params}
            params = {**{k: v for k, v in fixed.items() if k not in params}, **params}
            try:
                found.append((row, self._space.validate(self._switched(params))))
            except OutsideSpace as exc:
                reason = reason or f"{row.where}: {exc}"
        if not found:
            raise ConfigError(
                key,
                f"no point of {place} fits the search space ({reason}); set: {{name: value}} fills in parameters that "
                "were fixed there",
            )
        return found

    def _switched(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Without what the other parameters switch off here."""
        kept = dict(params)
        for p in self._space:
            if p.name in kept and p.when and not p.active(kept):
                del kept[p.name]
        return kept

    def _comparable(self, row: Row) -> bool:
        """Whether a value is one of a whole training, or of a budget that this search knows as a parameter too."""
        return not row.lacking or row.budget in self._space

    def _loss(self, row: Row) -> tuple[bool, float]:
        """Smaller is better: points that keep the outcome constraints first, by the first objective."""
        goal = self._experiment.goals[0]
        broken = not all(each.holds(row.values) for each in self._experiment.outcomes)
        return broken, goal.sign * row.values[goal.name]

    def _run(self, place: str, key: str) -> Iterator[Row]:
        if place not in self._runs:
            self._runs[place] = self._read_run(place, key)
        run = self._runs[place]
        own = self._model.name if self._model.name in run.models else None
        for point in (p for p in run.points if own in (None, p.model)):
            measured = {**(point.metrics or {}), **(point.values or {})}
            values = self._measured(measured, f"point {point.id} of {place}", key)
            budget, lacking = run.budgets.name(point.model), run.budgets.lacking(point)
            yield Row(f"point {point.id}", point.params, values, budget, lacking)

    def _read_run(self, place: str, key: str) -> _Run:
        beside = self._folder / place
        try:
            with open_view(
                str(beside) if is_run(beside) else place, store=Path(self._experiment.store.folder)
            ) as view:
                done = [p for p in view.points if p.state == "done"]
                budgets = Budgets(view.experiment, done, lambda _: True)
                return _Run([m.name for m in view.models], done, budgets)
        except UserError as exc:
            raise ConfigError(key, str(exc)) from None

    def _measured(self, metrics: Mapping[str, Any], where: str, key: str) -> dict[str, float]:
        for name in self._experiment.measured:
            if name not in metrics:
                raise ConfigError(key, f'{where} has no "{name}"; {nearest(name, list(map(str, metrics)))}')
        values = {name: float(metrics[name]) for name in self._experiment.measured}
        errors = standard_errors(values, metrics)
        return {**values, **{name + SEM: float(error) for name, error in errors.items()}}

    def _csv(self, place: str, key: str) -> Iterator[Row]:
        path = self._folder / place
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                table = csv.DictReader(stream)
                columns = {_bare(name): name for name in table.fieldnames or ()}
                for name in self._experiment.measured:
                    if name not in columns:
                        raise ConfigError(
                            key,
                            f'{place} has no column "{name}"; {nearest(name, columns)}, from its first line',
                        )
                for cells in table:
                    if row := self._csv_row(cells, columns, f"line {table.line_num} of {place}", key):
                        yield row
        except (OSError, UnicodeDecodeError, csv.Error) as exc:
            raise ConfigError(
                key, f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}"
            ) from None

    def _csv_row(
        self, cells: Mapping[str, str], columns: Mapping[str, str], where: str, key: str
    ) -> Row | None:
        """A line of a table; None where it has no values, as those of failed points."""
        texts = {name: (cells.get(column) or "").strip() for name, column in columns.items()}
        if not all(texts[name] for name in self._experiment.measured):
            return None
        metrics = {}
        for name in (*self._experiment.measured, *(each + SEM for each in self._experiment.measured)):
            if texts.get(name):
                try:
                    metrics[name] = float(texts[name])
                except ValueError:
                    metrics[name] = math.nan
                if not math.isfinite(metrics[name]):
                    raise ConfigError(key, f'{where}: "{name}" is {texts[name]!r}; expected a finite number')
        params = {p.name: _typed(p, texts[p.name]) for p in self._space if texts.get(p.name)}
        return Row(where, params, self._measured(metrics, where, key))


def _bare(column: str) -> str:
    """A column's name without what `hpo-steer export` puts before it."""
    for prefix in ("params.", "values.", "metrics."):
        if column.startswith(prefix):
            return column.removeprefix(prefix)
    return column


def _typed(p: Parameter, text: str) -> Any:
    """A cell as a value of a parameter; what is none stays a text, which the space refuses."""
    if isinstance(p, Categorical):
        return next((choice for choice in p.choices if text in _texts(choice)), text)
    try:
        number = float(text)
    except ValueError:
        return text
    if isinstance(p, Int) and number.is_integer():
        return int(number)
    return number if isinstance(p, Float) else text


def _texts(choice: Any) -> Iterable[str]:
    return str(choice), json.dumps(choice, sort_keys=True)
