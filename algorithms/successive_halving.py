"""Asynchronous successive halving over a parameter that is the budget of a training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from algorithms.history import HistoryAlgorithm
from algorithms.options import number, whole
from algorithms.random_search import Random
from hpo_steer.algorithm import Point
from hpo_steer.errors import ConfigError, OutsideSpace, nearest
from hpo_steer.parameters import Categorical, Float, Int
from hpo_steer.ranking import Ranking
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpo_steer.algorithm import Observation
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params

_SLACK = 1.0 + 1e-9
_WAITING = "the search space holds no new points, and none that has ended can be promoted yet"


class SuccessiveHalving(HistoryAlgorithm):
    """ASHA, the variant that promotes: a point is trained a little, and longer if it is among the best.

    Rungs are values of one parameter, the budget: `max`, a part in `eta` of it, a part of that, down to `min`. Whenever
    a point is wanted, the best one that may rise rises, from the highest rung on which there is one: a point may if it
    is among the best ``n / eta`` (rounded down) of the n points with values on its rung, and has not risen yet. Where
    none may, a new point is drawn and put on the lowest rung. Nobody waits for a rung to fill.

    A point that rises is a new point with the same parameters but for the budget. It continues the checkpoint of the
    old one, so that a training that saves some pays for each epoch once.

    Points that failed or were pruned do not rise and count for nothing. Points that came from elsewhere stand on the
    rung that is their budget, if there is one. Several objectives are ranked as by `hpo_steer.ranking.Ranking`.

    Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar, A System for Massively Parallel
    Hyperparameter Tuning, MLSys (2020).

    Args:
        space: where points come from.
        objectives: what to optimise.
        seed: fixes every random choice.
        budget: the parameter that says how long a training lasts.
        eta: of the points on a rung, one in so many rises, to so many times the budget.
        min: the lowest rung is no lower; None: the parameter's low.
        max: the highest rung; None: the parameter's high.

    Raises:
        ConfigError: no such parameter, one that is no number or is involved in conditions, or an option out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        budget: str | None = None,
        eta: int = 3,
        min: float | None = None,  # noqa: A002 - its name in a config
        max: float | None = None,  # noqa: A002 - likewise
    ) -> None:
        super().__init__(space, objectives, seed)
        parameter = budget_parameter(space, budget)
        self._budget = parameter.name
        self.rungs = rungs(parameter, whole("eta", eta, 2), min, max)
        self._eta = eta
        self._place = {value: i for i, value in enumerate(self.rungs)}
        self._rankings = [Ranking() for _ in self.rungs]
        self._risen: set[int] = set()
        self._fresh = self._new_fresh()

    def _new_fresh(self) -> Random:
        """Draws points for the lowest rung."""
        lowest = Categorical(self._budget, (self.rungs[0],))
        parameters = [lowest if p.name == self._budget else p for p in self.space]
        return Random(SearchSpace(parameters, self.space.constraints), self.objectives, self.seed)

    # ---------------------------------------------------------------- tell

    def learn(self, news: Sequence[Observation]) -> None:
        """Puts points with values on their rungs."""
        for observation in news:
            rung = self._place.get(self.points[observation.point_id][self._budget])
            if rung is not None and (values := observation.values) is not None:
                losses = tuple(goal.sign * values[goal.name] for goal in self.objectives)
                self._rankings[rung].put(observation.point_id, losses)

    def adopt(self, points: Sequence[Point]) -> None:
        """Takes in points that this instance did not propose."""
        super().adopt(points)
        self._risen.update(point.parent for point in points if point.parent is not None)
        lowest = [p for p in points if p.params[self._budget] == self.rungs[0]]
        first = len(self._fresh.points)
        self._fresh.adopt([replace(point, id=i, parent=None) for i, point in enumerate(lowest, first)])

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._rankings = [Ranking() for _ in self.rungs]
        self._risen, self._fresh = set(), self._new_fresh()

    # ---------------------------------------------------------------- ask

    def propose(self, n: int) -> list[Params]:
        """Nothing: see `choose`."""
        del n
        return []

    def choose(self, n: int) -> list[tuple[Params, int | None]]:
        """Points that rise, the highest rung first, then new ones."""
        found: list[tuple[Params, int | None]] = []
        for point, budget in self._rising():
            if len(found) == n:
                return found
            self._risen.add(point)
            params = self.points[point] | {self._budget: budget}
            if self.claim(params, point):
                found.append((params, point))
        fresh = self._fresh.ask(n - len(found))
        return found + [(point.params, None) for point in fresh if self.claim(point.params)]

    def _rising(self) -> Iterator[tuple[int, float]]:
        for rung in range(len(self.rungs) - 2, -1, -1):
            ranking = self._rankings[rung]
            for point in ranking.best(len(ranking) // self._eta):
                if point not in self._risen:
                    yield point, self.rungs[rung + 1]

    def run_dry(self) -> None:
        """No new points are left: others may rise when results have come."""
        if self.pending:
            self.short = _WAITING
        else:
            self.ended = self._fresh.ended or "no point is left that may be promoted"


def budget_parameter(space: SearchSpace, name: Any) -> Int | Float:
    """The parameter of a search space that is the budget of a training.

    Raises:
        ConfigError: there is none of this name, or it is no number, or it is involved in conditions.
    """
    key = "algorithm.budget"
    if not isinstance(name, str) or not name:
        raise ConfigError(
            key, f"names the parameter that says how long a training lasts, such as epochs, got {name!r}"
        )
    if name not in space:
        raise ConfigError(key, f'there is no parameter "{name}"; {nearest(name, [p.name for p in space])}')
    parameter = space[name]
    if not isinstance(parameter, (Int, Float)):
        raise ConfigError(key, f'"{name}" is a categorical; a budget is an int or a float')
    if parameter.low <= 0:
        raise ConfigError(key, f'"{name}" begins at {parameter.low}; a budget is above 0')
    if parameter.when:
        raise ConfigError(key, f'"{name}" is switched on and off; a budget has no "when"')
    for other in space:
        if name in other.when:
            raise ConfigError(
                key,
                f'"{other.name}" is switched on by "{name}"; nothing else may depend on a budget that rises',
            )
    return parameter


def rungs(
    parameter: Int | Float, eta: int, low: float | None = None, high: float | None = None
) -> list[float]:
    """The values of a budget that trainings are given, in increasing order; each about `eta` times the one before.

    >>> rungs(Int("epochs", 1, 100), 3, high=27)
    [1, 3, 9, 27]

    Raises:
        ConfigError: the ends are no values of the parameter, or there would be one rung only.
    """
    least = number("min", parameter.low if low is None else low, parameter.low, parameter.high)
    most = number("max", parameter.decode(1.0) if high is None else high, parameter.low, parameter.high)
    try:
        parameter.check(most)
    except OutsideSpace as exc:
        raise ConfigError("algorithm.max", f"is no value of the budget: {exc}") from None
    count = math.floor(math.log(most / least * _SLACK, eta)) + 1 if most > least else 1
    shares = (most / eta**i for i in range(count - 1, -1, -1))
    found = sorted({_legal(parameter, share) for share in shares})
    if len(found) < 2:
        raise ConfigError(
            "algorithm.min",
            f"one rung only from {least:g} to {most:g}; max has to be eta ({eta}) times min or more",
        )
    return found


def _legal(parameter: Int | Float, value: float) -> float:
    """The value of a parameter that is nearest to a number in its range."""
    if parameter.step is not None:
        steps = math.floor((value - parameter.low) / parameter.step + 0.5)
        value = parameter.low + parameter.step * steps
        while value > parameter.high * _SLACK:
            value -= parameter.step
    return parameter.check(round(value) if isinstance(parameter, Int) else value)
