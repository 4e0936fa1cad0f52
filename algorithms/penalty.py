"""Outcome constraints as penalties, for methods that know nothing but losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.outcomes import OutcomeConstraint

_HUGE = 1e20


class Penalty:
    """Losses of results, in which one that breaks a constraint is worse than all that came before it.

    After Deb, An efficient constraint handling method for genetic algorithms, 2000: the penalised loss is the
    worst loss so far and more, by how far the metrics are outside their bounds. No weight is needed, as losses
    of broken constraints are never compared with others by their size. Here every metric's violation is
    measured by the largest seen of it, and the sum by the span of the losses.

    Losses are kept within ±1e20: beyond it the optimisers lose their way.

    Args:
        objectives: one or several; each loss is penalised alike.
        constraints: none, or several.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[OutcomeConstraint]) -> None:
        self._objectives, self._constraints = objectives, constraints
        self._worst: list[float] = []
        self._best: list[float] = []
        self._largest = [0.0] * len(constraints)

    def losses(self, values: Mapping[str, float]) -> list[float] | None:
        """What to tell, one number to be minimised for each objective.

        Args:
            values: the objectives, finite, and the metrics of the constraints.

        Returns:
            None where a constraint's metric is missing or NaN: there is nothing true to tell.
        """
        raw = [_bounded(goal.sign * float(values[goal.name])) for goal in self._objectives]
        slacks = [each.slack(values) if each.metric in values else None for each in self._constraints]
        if any(slack is None or slack != slack for slack in slacks):  # noqa: PLR0124 - NaN alone is not itself
            return None
        self._worst = [max(pair) for pair in zip(self._worst or raw, raw, strict=True)]
        self._best = [min(pair) for pair in zip(self._best or raw, raw, strict=True)]
        violations = [_bounded(max(-slack, 0.0)) for slack in slacks if slack is not None]
        self._largest = [max(pair) for pair in zip(self._largest, violations, strict=True)]
        share = sum(v / most for v, most in zip(violations, self._largest, strict=True) if v > 0.0)
        if share == 0.0:
            return raw
        spans = [worst - best or 1.0 for worst, best in zip(self._worst, self._best, strict=True)]
        return [_bounded(worst + span * share) for worst, span in zip(self._worst, spans, strict=True)]


def _bounded(loss: float) -> float:
    return min(max(loss, -_HUGE), _HUGE)
