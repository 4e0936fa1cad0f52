"""Generators as algorithms: classes of the standard that Xopt, libEnsemble and Optimas share (package gest-api).

`generator_algorithm` makes a `SearchAlgorithm` of a class with ``suggest`` and ``ingest``. Generators draw from the
global random numbers of Python, NumPy and PyTorch, and few take a seed. So these are seeded before every call, from
the seed and the number of points so far, and put back after it: a replayed history gives the same points again.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hpo_steer.algorithm import Failure, Observation, Point, SearchAlgorithm, Step, Told
from hpo_steer.errors import AlgorithmError, ConfigError, HpoSteerError, MissingExtra, OutsideSpace, nearest
from hpo_steer.generator_classes import accepted_options, complaint, create, is_of_xopt, said, seeded
from hpo_steer.outcomes import parse_outcome_constraints
from hpo_steer.vocs import Translation

if TYPE_CHECKING:
    from hpo_steer.objectives import Objective
    from hpo_steer.outcomes import OutcomeConstraint
    from hpo_steer.space import Params, SearchSpace
    from hpo_steer.vocs import Row

_ROUNDS = 10
"""How often in a row a generator may suggest nothing of use."""
_TRIES = 1_000
"""How many random points are drawn for one that is new."""
_SEEDS = ("seed", "random_seed", "random_state")
"""Options by which a generator may take a seed."""
_FAILURES = ("nan", "drop")


class GeneratorAlgorithm(SearchAlgorithm):
    """Any generator of the standard; use `generator_algorithm` to make the class of one.

    Args:
        space: where points come from; without conditions.
        objectives: what to optimise.
        seed: fixes every random choice, also that of the generator, if it draws from the global random numbers.
        outcome_constraints: bounds on what a training measures; they become constraints of the VOCS.
        options: `initial_points` (how many random points come before the first suggestion) and `failures` (``nan``:
            a failed point is told with NaN for its values, ``drop``: it is not told), unless the generator has
            options of these names itself; all others are the generator's.

    Attributes:
        generator: the class.
        target: its name in the config.
        forbid: whether points proposed before are left out.

    Raises:
        ConfigError: an option it does not have, or a space or objectives that it refuses.
        MissingExtra: gest-api is not installed.
    """

    generator: ClassVar[type[Any]]
    target: ClassVar[str]
    forbid: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        outcome_constraints: Sequence[str | OutcomeConstraint] = (),
        **options: Any,
    ) -> None:
        super().__init__(space, objectives, seed, **options)
        self._translation = Translation(space, objectives, parse_outcome_constraints(outcome_constraints))
        self._options = dict(options)
        self._of_xopt = is_of_xopt(self.generator)
        accepted = accepted_options(self.generator)
        self._initial = _count(self._own_option("initial_points", 0, accepted))
        self._failures = self._own_option("failures", "nan" if self._of_xopt else "drop", accepted)
        if self._failures not in _FAILURES:
            hint = nearest(str(self._failures), _FAILURES)
            raise ConfigError("algorithm.failures", f'unknown "{self._failures}"; {hint}')
        if accepted is not None:
            for key in self._options:
                if key not in accepted:
                    known = {*accepted, "initial_points", "failures"}
                    hint = nearest(key, known)
                    raise ConfigError(f"algorithm.{key}", f'"{self.target}" has no such option; {hint}')
            for key in _SEEDS:
                if key in accepted:
                    self._options.setdefault(key, seed)
        self._begin()

    def _own_option(self, name: str, default: Any, accepted: set[str] | None) -> Any:
        return default if accepted is not None and name in accepted else self._options.pop(name, default)

    def _begin(self) -> None:
        """Forgets all points and creates the generator."""
        self.ended = None
        self._points: dict[int, Params] = {}
        self._suggestions: dict[int, Row] = {}  # as the generator made them, until they are told
        self._ids: dict[Any, int] = {}  # of points, by the `_id` that the generator gave them
        self._told: set[int] = set()
        self._news: list[Observation] = []
        self._surplus: deque[Row] = deque()
        self._seen: set[str] = set()
        self._suggested = self._learnt = False
        with seeded(self.seed, 0):
            self._generator = self._created()

    def _created(self) -> Any:
        try:
            vocs = self._translation.vocs()
        except ModuleNotFoundError as exc:
            raise MissingExtra(f'generator "{self.target}"', "gest") from exc
        try:
            return create(self.generator, vocs, self._options)
        except Exception as exc:
            key, text = complaint(exc)
            if discrete := self._translation.discrete:
                text += f" (its discrete variables are the categorical parameters: {', '.join(discrete)})"
            raise ConfigError(
                f"algorithm.{key}" if key in self._options else "algorithm",
                f'"{self.target}" cannot be created: {text}',
            ) from exc

    # ---------------------------------------------------------------- ask

    def ask(self, n: int) -> list[Point]:
        """Exactly `n` points, or fewer after setting `ended`.

        Raises:
            AlgorithmError: the generator failed, suggested no point of the space, or too few.
        """
        self.note = None
        if self.ended is not None:
            return []
        self._pass_news_on()
        points = self._drawn(min(n, max(self._initial - len(self._points), 0)))
        barren = refused = 0
        while len(points) < n and barren < _ROUNDS:
            before = len(points)
            if not self._surplus and not self._refill(n - len(points), barren):
                return points + self._drawn(n - len(points))
            while self._surplus and len(points) < n:
                row = self._surplus.popleft()
                params, parent = self._meant(row), self._parent(row)
                if self._wanted(params, parent):
                    points.append(self._numbered(params, row, parent))
                else:
                    refused += 1
            barren = barren + 1 if len(points) == before else 0
        if len(points) < n:
            points += self._substitutes(n - len(points), n, refused)
        return points

    def _refill(self, n: int, again: int) -> bool:
        """Asks the generator; False if it has to see results before it can suggest anything."""
        try:
            with seeded(self.seed, len(self._points), again + 1):
                rows = self._suggestion(n)
        except HpoSteerError:
            raise
        except Exception as exc:
            begins = isinstance(exc, (RuntimeError, ValueError)) and not isinstance(exc, NotImplementedError)
            if begins and not self._learnt:
                self.note = f"random points, until {self.target} has results to begin with ({said(exc)})"
                return False
            several = n > 1 or len(self._told) < len(self._points)
            hint = (
                "; if it gives one point at a time, set steering.points_per_iteration: 1" if several else ""
            )
            raise AlgorithmError(
                f'generator "{self.target}" failed to suggest {n}: {said(exc)}{hint}'
            ) from exc
        self._suggested = True
        self._surplus.extend(rows)
        return True

    def _suggestion(self, n: int) -> list[Row]:
        try:
            rows = self._generator.suggest(n)
        except ValueError:
            # "cannot produce that number" by the standard; without a number it may choose one
            rows = None
            with contextlib.suppress(Exception):
                rows = self._generator.suggest(None)
            if rows is None:
                raise
        if not isinstance(rows, (list, tuple)) or not all(isinstance(row, Mapping) for row in rows):
            raise AlgorithmError(
                f'generator "{self.target}" returned {type(rows).__name__} from suggest({n}); expected a list of dicts'
            )
        return [dict(row) for row in rows]

    def _meant(self, row: Row) -> Params:
        try:
            return self._translation.from_generator(row)
        except OutsideSpace as exc:
            raise AlgorithmError(f'generator "{self.target}" suggested {row!r}: {exc}') from exc

    def _parent(self, row: Row) -> int | None:
        """The point that a suggestion continues: its ``_parent`` is the ``_id`` of an earlier one."""
        parent = row.get("_parent")
        if parent is None:
            return None
        if parent not in self._ids:
            raise AlgorithmError(
                f'generator "{self.target}" suggested a point with the _parent {parent!r}, which is the _id of none of '
                "its earlier suggestions"
            )
        return self._ids[parent]

    def _wanted(self, params: Params, parent: int | None = None) -> bool:
        if self.space.broken(params) is not None:
            return False
        return not self.forbid or self.space.hash(params, parent) not in self._seen

    def _numbered(self, params: Params, row: Row | None = None, parent: int | None = None) -> Point:
        point = Point(len(self._points), params, parent)
        self._keep(point, row)
        return point

    def _keep(self, point: Point, row: Row | None = None) -> None:
        self._points[point.id] = point.params
        if row is not None:
            self._suggestions[point.id] = row
            if row.get("_id") is not None:
                self._ids[row["_id"]] = point.id
        if self.forbid:
            self._seen.add(self.space.hash(point.params, point.parent))

    def _substitutes(self, missing: int, n: int, refused: int) -> list[Point]:
        """Random points in place of suggestions that break a constraint, or were made before."""
        if not refused:
            raise AlgorithmError(
                f'generator "{self.target}" suggested {n - missing} of {n} points, and nothing more in {_ROUNDS} tries'
            )
        why = "breaks a constraint or was proposed before" if self.forbid else "breaks a constraint"
        points = self._drawn(missing)
        self.note = f"{len(points)} of {n} points are random: what {self.target} suggests {why}"
        return points

    def _drawn(self, n: int) -> list[Point]:
        """Random points; fewer, and `ended` is set, if nothing new is to be found."""
        rng = np.random.default_rng([self.seed, len(self._points)])
        points: list[Point] = []
        tries = 0
        while len(points) < n:
            (params,) = self.space.sample(1, rng)
            tries += 1
            if self._wanted(params):
                points.append(self._numbered(params))
                tries = 0
            elif tries == _TRIES:
                self.ended = "nothing new is left to propose, and duplicates are forbidden"
                break
        return points

    # ---------------------------------------------------------------- tell

    def tell(self, observations: Sequence[Observation]) -> None:
        """Keeps what came of points until the next ask, so that their order is of no account.

        Raises:
            AlgorithmError: of a point that was never proposed, or without one of the metrics.
        """
        for observation in observations:
            if observation.point_id not in self._points:
                raise AlgorithmError(
                    f"a result came for point {observation.point_id}, which was never proposed"
                )
            if observation.point_id not in self._told:
                self._told.add(observation.point_id)
                self._news.append(self._checked(observation))

    def _checked(self, observation: Observation) -> Observation:
        for name in self._translation.outcomes if observation.values is not None else ():
            assert observation.values is not None  # noqa: S101 - for the type checker
            if name not in observation.values:
                raise AlgorithmError(f'the result of point {observation.point_id} lacks "{name}"')
            if not math.isfinite(observation.values[name]):
                text = f"{name} is {observation.values[name]}"
                return Observation(observation.point_id, failure=Failure("invalid", text))
        return observation

    def adopt(self, points: Sequence[Point]) -> None:
        """Takes in points that the generator did not suggest; their results are ingested without an ``_id``.

        Raises:
            AlgorithmError: a point of that id is known already.
        """
        for point in points:
            if point.id in self._points:
                raise AlgorithmError(f"point {point.id} was proposed before; a point is adopted once")
            self._keep(point)

    def _pass_news_on(self) -> None:
        """Ingests the results since the last ask, by point id: first those of strangers, then its own."""
        news, self._news = sorted(self._news, key=lambda o: o.point_id), []
        strangers, own = [], []
        for observation in news:
            suggestion = self._suggestions.pop(observation.point_id, None)
            if observation.values is not None:
                outcome = self._translation.results(observation.values) | self._xopt_columns()
            elif self._failures == "nan" and suggestion is not None:
                outcome = dict.fromkeys(self._translation.result_names, math.nan)
                outcome |= self._xopt_columns(observation.failure)
            else:
                continue
            self._learnt = self._learnt or observation.values is not None
            if suggestion is None:
                row = self._translation.to_generator(self._points[observation.point_id])
                strangers.append(row | outcome | ({"xopt_candidate_idx": -1} if self._of_xopt else {}))
            else:
                own.append(suggestion | outcome)
        if strangers:
            self._ingest(strangers, strange=True)
        if own:
            self._ingest(own)

    def _ingest(self, rows: list[Row], *, strange: bool = False) -> None:
        try:
            with seeded(self.seed, len(self._points), len(self._told)):
                self._generator.ingest(rows)
        except Exception as exc:
            if strange and self._suggested:
                # sequential methods wait for what they suggested last, and refuse everything else
                self.note = f"{self.target} takes no results of points that it did not suggest ({said(exc)})"
                return
            raise AlgorithmError(f'generator "{self.target}" failed to ingest: {said(exc)}') from exc

    def _xopt_columns(self, failure: Failure | None = None) -> Row:
        """What Xopt's generators expect beside the metrics."""
        if not self._of_xopt:
            return {}
        columns: Row = {"xopt_runtime": 0.0, "xopt_error": failure is not None}
        return columns | ({"xopt_error_str": failure.message} if failure is not None else {})

    # ---------------------------------------------------------------- restore

    def restore(self, history: Sequence[Step]) -> None:
        """Goes through every ask and tell again.

        Should the generator now suggest other points than were recorded (it was updated, or draws random numbers
        that cannot be seeded), the recorded ones count: a new one is given them as points that it did not suggest.
        """
        for step in history:
            if isinstance(step, Told):
                self.tell(step.observations)
            elif step.given:
                self.adopt(step.points)
            elif [(p.id, p.params, p.parent) for p in self.ask(step.n)] != [
                (p.id, dict(p.params), p.parent) for p in step.points
            ]:
                break
        else:
            return
        self._begin()
        for step in history:
            if isinstance(step, Told):
                self.tell(step.observations)
            else:
                self.adopt(step.points)


def generator_algorithm(generator: Any, target: str, *, forbid: bool = False) -> type[GeneratorAlgorithm]:
    """The `SearchAlgorithm` of a generator.

    Args:
        generator: a class with ``suggest`` and ``ingest``.
        target: its name in the config.
        forbid: whether points proposed before are left out.

    Raises:
        ConfigError: it is no such class.
    """
    if not isinstance(generator, type) or not all(
        callable(getattr(generator, method, None)) for method in ("suggest", "ingest")
    ):
        raise ConfigError(
            "algorithm.generator",
            f"{target} is no generator: a class with suggest(num_points) and ingest(results), as in gest_api.Generator",
        )
    made_for = {"generator": generator, "target": target, "forbid": forbid, "__module__": __name__}
    return type(generator.__name__, (GeneratorAlgorithm,), made_for)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError("algorithm.initial_points", f"expected a whole number from 0 on, got {value!r}")
    return value
