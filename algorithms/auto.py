"""The default: a search method chosen by the task."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from algorithms.options import whole
from hpo_steer.algorithm import Asked, Observation, Point, SearchAlgorithm, Step, Told
from hpo_steer.outcomes import parse_outcome_constraints, without_metrics
from hpo_steer.registry import create_algorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.outcomes import OutcomeConstraint
    from hpo_steer.space import Params, SearchSpace

_MOST_OBJECTIVES = 6
_LARGE_BATCH = 200
_LARGE_BATCH_OF_FRONTS = 100
_LONG, _LONG_FRONTS = 10_000, 5_000


class Auto(SearchAlgorithm):
    """Chooses among our methods by objectives, batch size, history length and budget, and says which and why.

    * One objective: `bayesian`. It begins with a Sobol sequence, goes on with Gaussian processes chosen by
      evidence, and models the better half of very long histories.
    * Two to six objectives: `mobo`.
    * More objectives, batches of more than 200 points (100 with several objectives), or experiments of more than 10,000
      points (5,000): `evolution`, whose asks cost next to nothing. Points are cheap there, and models are not.

    The choice is made anew at every ask, so it changes on the way as batches or the history grow. The method that
    takes over learns from all points so far.

    Args:
        space: where points come from.
        objectives: one or several.
        seed: of the method chosen.
        budget: how many points there will be; None: nobody knows.
        outcome_constraints: bounds on reported metrics, as in ``["latency_ms <= 20"]``.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        budget: int | None = None,
        outcome_constraints: Sequence[str | OutcomeConstraint] = (),
    ) -> None:
        super().__init__(space, objectives, seed)
        self._budget = None if budget is None else whole("budget", budget, 1)
        self._constraints = parse_outcome_constraints(outcome_constraints)
        self._history: list[Step] = []
        self._points = 0
        self._name = ""
        self._search: SearchAlgorithm | None = None

    def ask(self, n: int) -> list[Point]:
        """Proposes exactly `n` points by the method that fits best now."""
        name, why = self._choice(n)
        self.note = None
        if self._search is None or name != self._name:
            self.note = f"auto {'goes on with' if self._name else 'chose'} {name}: {why}"
            self._name = name
            self._search = self._made(name)
            self._search.restore([self._understood(step) for step in self._history])
        proposed: Sequence[Point | Params] = self._search.ask(n)
        points = [
            each if isinstance(each, Point) else Point(self._points + i, each)
            for i, each in enumerate(proposed)
        ]
        self._note_step(Asked(n, points))
        self.ended, self.note = self._search.ended, self.note or self._search.note
        return points

    def tell(self, observations: Sequence[Observation]) -> None:
        """Takes in what came of points.

        Raises:
            AlgorithmError: of a point that was never proposed, or without one of the objectives.
        """
        step = Told(list(observations))
        self._note_step(step)
        if self._search is not None:
            self._search.restore([self._understood(step)])

    def adopt(self, points: Sequence[Point]) -> None:
        """Takes in points of another origin."""
        step = Asked(len(points), list(points), given=True)
        self._note_step(step)
        if self._search is not None:
            self._search.restore([step])

    def restore(self, history: Sequence[Step]) -> None:
        """Takes a recorded history over; the next ask chooses a method for it."""
        for step in history:
            if isinstance(step, Told):
                self.tell(step.observations)
            elif self._search is not None:
                self.adopt(step.points)
            else:
                self._note_step(step)

    def _note_step(self, step: Step) -> None:
        self._history.append(step)
        if isinstance(step, Asked):
            self._points += len(step.points)

    # ---------------------------------------------------------------- the choice

    def _choice(self, n: int) -> tuple[str, str]:
        """The method for an ask of `n` points, and why."""
        count = len(self.objectives)
        total = max(self._budget or 0, self._points)
        task = f"{_few(count, 'objective')}, {_few(len(self.space), 'parameter')}, batches of {n}"
        if count > _MOST_OBJECTIVES:
            return "evolution", f"there are {count} objectives, and mobo takes {_MOST_OBJECTIVES}"
        large, long = (_LARGE_BATCH, _LONG) if count == 1 else (_LARGE_BATCH_OF_FRONTS, _LONG_FRONTS)
        model = "bayesian" if count == 1 else "mobo"
        if n > large or total > long:
            reason = f"batches of {n} points" if n > large else f"{total:,} points"
            if find_spec("pymoo"):
                return "evolution", f"{reason} are too many for {model}, whose asks would take long"
            return model, f"{task} (evolution would answer sooner: pip install 'hpo-steer[evolution]')"
        first = (
            "Sobol points first, then Gaussian processes"
            if self._points < 2 * len(self.space) + 2
            else (f"Gaussian processes on {_few(self._points, 'point')} known")
        )
        return model, f"{task}; {first}"

    def _made(self, name: str) -> SearchAlgorithm:
        takes = (
            {"outcome_constraints": self._constraints} if self._constraints and name != "evolution" else {}
        )
        return create_algorithm(name, self.space, self.objectives, self.seed, **takes)

    def _understood(self, step: Step) -> Step:
        """A step as the method at hand takes it: evolution knows broken outcome constraints as failures."""
        if self._name != "evolution" or not isinstance(step, Told) or not self._constraints:
            return step
        goals = [goal.name for goal in self.objectives]
        return Told([without_metrics(each, self._constraints, goals) for each in step.observations])


def _few(count: int, noun: str) -> str:
    return f"{'one' if count == 1 else f'{count:,}'} {noun}{'' if count == 1 else 's'}"
