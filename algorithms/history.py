"""The base of the built-in methods: it keeps the history, so that a method only has to propose."""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from hpo_steer.algorithm import Asked, Failure, Observation, Point, SearchAlgorithm, Step, Told
from hpo_steer.errors import AlgorithmError
from hpo_steer.parameters import Categorical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_SMALL = 2_000  # spaces of so few points are listed rather than drawn from
_LISTABLE = 1_000_000
_TRIES = 20_000


class HistoryAlgorithm(SearchAlgorithm):
    """Keeps the points proposed and what came of them; subclasses write `propose`.

    * Points are numbered from 0; no point is proposed twice; an ask returns exactly as many as wanted, or
      fewer after setting `ended`.
    * Results are handed to the method at the next ask, sorted by point id: proposals depend on which results
      have come by then and not on the order they came in.
    * Random numbers come from the seed and the number of points so far (`rng`), so that a method without
      state of its own goes on from a recorded history as if it had never stopped.

    A method with state of its own (an evolution strategy, a swarm) overrides `restore` with `replay`. One that
    continues earlier points overrides `choose` in place of `propose`.

    Attributes:
        points: params of every point proposed, by id.
        parents: of points that continue an earlier one: which.
        given: points that came from elsewhere.
        told: what came of them, by id.
        identity: a hashable key of a point's params.
    """

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], seed: int = 0) -> None:
        super().__init__(space, objectives, seed)
        self.points: dict[int, Params] = {}
        self.parents: dict[int, int] = {}
        self.given: set[int] = set()
        self.told: dict[int, Observation] = {}
        self._next_id = 0
        self._news: list[Observation] = []
        self.identity = point_identity(space)
        self._seen: set[tuple[Any, ...]] = set()
        self._cells: list[Params] | None = None

    # ---------------------------------------------------------------- what a method writes

    @abstractmethod
    def propose(self, n: int) -> list[Params]:
        """Up to `n` points that `claim` accepted; what is missing is filled up by `draw`."""

    def choose(self, n: int) -> list[tuple[Params, int | None]]:
        """Up to `n` points that `claim` accepted, each with the point it continues, if any."""
        found = self.propose(n)
        if len(found) < n and self.ended is None:
            found += self.draw(n - len(found))
        return [(params, None) for params in found]

    def run_dry(self) -> None:
        """An ask brought fewer points than wanted: sets `ended`, or `short` where there may be more later."""
        self._end()

    def learn(self, news: Sequence[Observation]) -> None:
        """Takes in the results since the last ask, sorted by point id. The default does nothing."""

    def adopt(self, points: Sequence[Point]) -> None:
        """Takes in points that this instance did not propose: recorded ones, or a user's own.

        Raises:
            AlgorithmError: a point of that id is known already.
        """
        self._pass_news_on()
        for point in points:
            if point.id in self.points:
                raise AlgorithmError(f"point {point.id} was proposed before; a point is adopted once")
            self.points[point.id] = dict(point.params)
            if point.parent is not None:
                self.parents[point.id] = point.parent
            self._seen.add(self._key(point.params, point.parent))
            self._next_id = max(self._next_id, point.id + 1)

    # ---------------------------------------------------------------- ask and tell

    def ask(self, n: int) -> list[Point]:
        """Proposes exactly `n` points, or fewer after setting `ended`."""
        if n <= 0 or self.ended is not None:
            return []
        self._pass_news_on()
        points = [
            Point(i, params, parent) for i, (params, parent) in enumerate(self.choose(n), self._next_id)
        ]
        self.points.update((point.id, point.params) for point in points)
        self.parents.update((point.id, point.parent) for point in points if point.parent is not None)
        self._next_id += len(points)
        if len(points) < n:
            self.run_dry()
        return points

    def tell(self, observations: Sequence[Observation]) -> None:
        """Takes in what came of points. The first result of a point counts; later ones are ignored.

        Raises:
            AlgorithmError: of a point that was never proposed, or without one of the objectives.
        """
        for observation in observations:
            if observation.point_id not in self.points:
                raise AlgorithmError(
                    f"a result came for point {observation.point_id}, which was never proposed"
                )
            if observation.point_id not in self.told:
                checked = self._checked(observation)
                self.told[observation.point_id] = checked
                self._news.append(checked)

    def restore(self, history: Sequence[Step]) -> None:
        """Adopts the recorded points and results; nothing is computed again."""
        for step in history:
            if isinstance(step, Told):
                self.tell(step.observations)
            else:
                self._take_in(step)

    def _take_in(self, step: Asked) -> None:
        self.adopt(step.points)
        if step.given:
            self.given.update(point.id for point in step.points)
        elif len(step.points) < step.n:
            self.run_dry()

    def replay(self, history: Sequence[Step]) -> None:
        """Goes through every ask and tell again, for a method whose state cannot be read off the history.

        Should it now propose other points than were recorded (a library was updated in between), the
        recorded ones count, and the method goes on from them as if they had been handed to it.
        """
        for step in history:
            if isinstance(step, Told):
                self.tell(step.observations)
            elif step.given:
                self._take_in(step)
            elif [(p.id, p.params, p.parent) for p in self.ask(step.n)] != [
                (p.id, dict(p.params), p.parent) for p in step.points
            ]:
                break
        else:
            return
        self.reset()
        HistoryAlgorithm.restore(self, history)

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        self.points, self.told, self._news = {}, {}, []
        self.parents, self.given = {}, set()
        self._seen, self._cells, self._next_id, self.ended = set(), None, 0, None

    # ---------------------------------------------------------------- for subclasses

    @property
    def pending(self) -> list[int]:
        """Ids of the points that were proposed and not told, in order."""
        return sorted(self.points.keys() - self.told.keys())

    def completed(self) -> list[tuple[Params, Observation]]:
        """Points with values, in the order of their ids."""
        return [(self.points[i], self.told[i]) for i in sorted(self.told) if self.told[i].values is not None]

    def failed(self) -> list[tuple[Params, Failure]]:
        """Points that failed, and how, in the order of their ids."""
        outcomes = ((i, self.told[i].failure) for i in sorted(self.told))
        return [(self.points[i], failure) for i, failure in outcomes if failure is not None]

    def pruned(self) -> list[tuple[Params, Observation]]:
        """Points that were ended early, in the order of their ids."""
        ended = ((i, self.told[i]) for i in sorted(self.told))
        return [(self.points[i], o) for i, o in ended if o.failure is not None and o.failure.kind == "pruned"]

    def rng(self, purpose: int = 0) -> np.random.Generator:
        """Random numbers of this ask: a function of the seed and of how many points there are so far."""
        return np.random.default_rng([self.seed & 0xFFFF_FFFF_FFFF_FFFF, self._next_id, purpose])

    def is_new(self, params: Params) -> bool:
        """Whether a point satisfies the constraints and was never proposed."""
        return self.identity(params) not in self._seen and self.space.broken(params) is None

    def claim(self, params: Params, parent: int | None = None) -> bool:
        """Marks a point as proposed; False, and nothing is marked, if it is not new.

        Args:
            params: of the point.
            parent: the point it continues; the same parameters after another one are another point.
        """
        key = self._key(params, parent)
        if key in self._seen or (self.space.constraints and self.space.broken(params) is not None):
            return False
        self._seen.add(key)
        return True

    def draw(self, n: int) -> list[Params]:
        """Up to `n` new points, uniform over the unit cube; fewer if no more are to be found."""
        rng = self.rng(purpose=1)
        found: list[Params] = []
        if self._cell_bound > _SMALL:
            misses = 0
            while len(found) < n and misses < _TRIES:
                missing = n - len(found)
                rows = rng.random(
                    (max(missing, min(1_000, 2 * missing) if misses else missing), len(self.space))
                )
                before = len(found)
                found += islice(self._claimed(rows), missing)
                misses = misses + len(rows) if len(found) == before else 0
        if len(found) < n and self._cell_bound <= _LISTABLE:
            left = self._unseen_cells()
            for i in rng.permutation(len(left))[: n - len(found)].tolist():
                self.claim(left[i])
                found.append(left[i])
        return found

    # ---------------------------------------------------------------- inside

    def _key(self, params: Mapping[str, Any], parent: int | None) -> tuple[Any, ...]:
        key = self.identity(params)
        return key if parent is None else (key, parent)

    def _claimed(self, rows: np.ndarray[Any, np.dtype[np.float64]]) -> Iterator[Params]:
        decode, claim = self.space.decode, self.claim
        for row in rows.tolist():
            params = decode(row)
            if claim(params):
                yield params

    @property
    def _cell_bound(self) -> float:
        """How many points the space has at most; infinite with a continuum."""
        return math.prod(math.inf if p.count is None else p.count for p in self.space)

    def _unseen_cells(self) -> list[Params]:
        cells = self.space.cells() if self._cells is None else iter(self._cells)
        self._cells = [cell for cell in cells if self.identity(cell) not in self._seen]
        return self._cells

    def _pass_news_on(self) -> None:
        if self._news:
            news, self._news = sorted(self._news, key=lambda o: o.point_id), []
            self.learn(news)

    def _end(self) -> None:
        if self.ended is None:
            if self._cell_bound <= _LISTABLE:
                self.ended = f"search space exhausted: all {len(self._seen)} points were proposed"
            else:
                self.ended = f"no new point that satisfies the constraints was found in {_TRIES:,} tries"

    def _checked(self, observation: Observation) -> Observation:
        values = observation.values
        if values is None:
            return observation
        for objective in self.objectives:
            if objective.name not in values:
                raise AlgorithmError(f'the result of point {observation.point_id} lacks "{objective.name}"')
            if not math.isfinite(values[objective.name]):
                text = f"{objective.name} is {values[objective.name]}"
                return Observation(observation.point_id, failure=Failure("error", text))
        return observation


def point_identity(space: SearchSpace) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """A cheap stand-in for `SearchSpace.hash`: two points of a space are the same iff their keys are equal.

    Python's equality of numbers does for floats and integers (1 and 1.0 are one value); choices such as 1 and
    True, or lists, are told apart by their place in the list of choices.
    """
    names = [p.name for p in space]
    awkward = [
        p for p in space if isinstance(p, Categorical) and not all(isinstance(c, str) for c in p.choices)
    ]
    if not awkward:
        if not space.conditional:
            return lambda params: tuple(map(params.__getitem__, names))
        return lambda params: tuple(map(params.get, names))
    places = {p.name: p.index for p in awkward}

    def identity(params: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(
            None if name not in params else places[name](params[name]) if name in places else params[name]
            for name in names
        )

    return identity
