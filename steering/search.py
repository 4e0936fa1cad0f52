"""One model's search: when to ask, for how many points, and when to stop. No I/O and no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpo_steer.objectives import Objective, dominates
from hpo_steer.outcomes import OutcomeConstraint, broken_outcome
from steering.look_ahead import Spare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpo_steer.config import Steering
    from steering.budget import Budget

_NO_SPARE = Spare()


class ModelSearch:
    """Counts the points of one model and applies the trigger and the stop rules to them.

    The sequence of calls is ``wanted -> begin_ask -> begin_iteration``, with `end_point` at any moment. Given the
    same calls in the same order it decides the same, which is what makes a resumed run go on as it would have.

    Args:
        rules: trigger and stop rules.
        goals: the objectives.
        outcomes: the outcome constraints; a point that breaks one is never the best and reaches no target.
        budget: how long points are trained, where the algorithm has a say in it. Only the points that were trained
            longest so far can be the best; others do not count for the patience; the target takes a whole training.

    Attributes:
        iterations: how many there have been.
        proposed: how many points they held.
        ended: how many of those have ended.
        known: how many more were known before the search began.
        told: the place of the newest observation in the order the algorithm was told. It is larger than `ended`
            once a failed point was given a fresh start: its observation was taken back, its place stays empty.
        current_size: points of the newest iteration.
        current_ended: how many of those have ended.
        asking: an ask is under way.
        told_at_ask: `told` when it began.
        wanted_at_ask: how many it asks for.
        stopped: why no more points are asked for; None while they are.
        cut: whether points that no worker has begun are of no use any more (target, patience, time).
        best: the best values so far that keep the outcome constraints (the newest of the front, if several).
    """

    def __init__(
        self,
        rules: Steering,
        goals: Sequence[Objective],
        outcomes: Sequence[OutcomeConstraint] = (),
        budget: Budget | None = None,
    ) -> None:
        self._rules, self._goals, self._outcomes, self._budget = rules, goals, outcomes, budget
        self._longest = 0.0
        self.iterations = self.proposed = self.ended = self.told = self.known = 0
        self.current_size = self.current_ended = 0
        self.asking = False
        self.told_at_ask = self.wanted_at_ask = 0
        self.stopped: str | None = None
        self.cut = False
        self.best: Mapping[str, float] | None = None
        self._front: list[tuple[float, ...]] = []
        self._since_better = 0
        self._declined_at: int | None = None

    @property
    def front(self) -> tuple[tuple[float, ...], ...]:
        """The values that no others dominate, all of them to be minimised."""
        return tuple(self._front)

    @property
    def front_size(self) -> int:
        """How many points no other one dominates."""
        return len(self._front)

    @property
    def unevaluated(self) -> int:
        """Points proposed and not ended."""
        return self.proposed - self.ended

    @property
    def over(self) -> bool:
        """Whether nothing will be asked for and nothing is awaited."""
        return self.stopped is not None and not self.asking and self.unevaluated == 0

    @property
    def out(self) -> int:
        """Points that have not ended, those included that an ask under way is to bring."""
        return self.unevaluated + (self.wanted_at_ask if self.asking else 0)

    def wanted(self, spare: Spare = _NO_SPARE) -> int:
        """How many points to ask for now; 0 for none.

        Args:
            spare: what waits in the queue and what should, where asks take long; top-up alone makes up for it.
        """
        if self.asking or self.stopped is not None:
            return 0
        if self._declined_at == self.ended and self.unevaluated:
            return 0
        rules = self._rules
        size = rules.points_per_iteration
        if self.iterations:
            trigger = rules.trigger
            if trigger.top_up:
                size = self._top_up(spare)
            elif trigger.unevaluated_below is not None:
                size = size - trigger.unevaluated_below if self.unevaluated < trigger.unevaluated_below else 0
            elif self.current_ended < trigger.needed(self.current_size):
                return 0
        if rules.point_limit is not None:
            size = min(size, rules.point_limit - self.proposed)
        return max(size, 0)

    def _top_up(self, spare: Spare) -> int:
        """A successor for each point that has ended, and a few for those that will have, by the time they are chosen.

        No more are chosen ahead than half of `points_per_iteration`; so who asks for one at a time gets that.
        """
        rules = self._rules
        size = rules.points_per_iteration - self.unevaluated
        before, successors = max(-size, 0), max(size, 0)
        missing = spare.needed - spare.there - successors
        most = min(spare.needed, rules.points_per_iteration // 2) - before
        return successors + max(min(missing, most), 0)

    def know(self, values: Mapping[str, float] | None, params: Mapping[str, Any] | None = None) -> None:
        """A point was known before the search began: told and never asked for, it counts for nothing but the best."""
        self.told += 1
        self.known += 1
        if (
            values is not None
            and not broken_outcome(self._outcomes, values)
            and not self._lacks(params, values)
        ):
            self._improves(values)

    def begin_ask(self, n: int) -> None:
        """An ask for `n` points has gone out."""
        self.asking, self.told_at_ask, self.wanted_at_ask = True, self.told, n

    def begin_iteration(self, size: int, exhausted: str | None = None) -> None:
        """An ask has brought `size` points; `exhausted` says why there will be no more.

        After one that has brought none, though there may be more, nothing is asked for until another point has ended.
        """
        self.asking = False
        self._declined_at = None if size else self.ended
        if size:
            self.iterations += 1
            self.proposed += size
            self.current_size, self.current_ended = size, 0
        if self.stopped is None:
            self.stopped = exhausted or self._spent()

    def _spent(self) -> str | None:
        rules = self._rules
        if rules.point_limit is not None and self.proposed >= rules.point_limit:
            return f"max_points ({rules.point_limit}) reached"
        if rules.max_iterations is not None and self.iterations >= rules.max_iterations:
            return f"max_iterations ({rules.max_iterations}) reached"
        return None

    def end_point(
        self, iteration: int, values: Mapping[str, float] | None, params: Mapping[str, Any] | None = None
    ) -> bool:
        """A point has ended, with values or with a failure.

        Returns:
            Whether it is better than all before (in several objectives: dominated by none), and keeps the
            outcome constraints.
        """
        self.ended += 1
        self.told += 1
        if iteration == self.iterations:
            self.current_ended += 1
        if values is not None and broken_outcome(self._outcomes, values):
            values = None
        if self._lacks(params, values):
            return False
        better = values is not None and self._improves(values)
        self._since_better = 0 if better else self._since_better + 1
        whole = self._budget is None or self._longest >= self._budget.full
        if values is not None and whole and not self.cut and (reached := self._target(values)):
            self.stopped, self.cut = reached, True
        patience = self._rules.patience
        if patience is not None and self._since_better >= patience:
            self.stop(f"patience: no better point in the last {patience}")
        return better

    def reopen_point(self, iteration: int) -> None:
        """A failed point is to be evaluated after all."""
        self.ended -= 1
        if iteration == self.iterations:
            self.current_ended -= 1

    def stop(self, reason: str) -> None:
        """Ends the search before its points are spent: those that no worker has begun are of no use any more."""
        if not self.cut and (self.stopped is None or self.unevaluated):
            self.stopped, self.cut = reason, True

    def _lacks(self, params: Mapping[str, Any] | None, values: Mapping[str, float] | None) -> bool:
        """Whether a point was trained less than an earlier one; one that was trained longer begins the front anew."""
        if self._budget is None or params is None:
            return False
        spent = self._budget.of(params)
        if values is not None and spent > self._longest:
            self._longest, self._front = spent, []
        return spent < self._longest

    def _improves(self, values: Mapping[str, float]) -> bool:
        row = tuple(goal.sign * values[goal.name] for goal in self._goals)
        if any(other == row or dominates(other, row) for other in self._front):
            return False
        self._front = [other for other in self._front if not dominates(row, other)] + [row]
        self.best = values
        return True

    def _target(self, values: Mapping[str, float]) -> str | None:
        aimed = [goal for goal in self._goals if goal.target is not None]
        if aimed and all(goal.reached(values[goal.name]) for goal in aimed):
            return "target reached: " + ", ".join(f"{goal.name} {values[goal.name]:g}" for goal in aimed)
        return None
